"""An app whose releases differ in how they behave: tests change MODE, which makes another release."""

import http.server
import os
import socketserver
import sys
import time
from pathlib import Path

MODE = "good"

if MODE == "dead":
    sys.exit("this release does not start")


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if MODE == "sick" and self.path == "/health":
            self.answer(503, "sick")
        elif MODE == "smoky" and self.path == "/smoke":
            self.answer(500, "smoke")
        elif self.path.startswith("/stream"):
            self.stream(float(self.path.partition("=")[2] or "3"))
        elif MODE == "failing" and self.path != "/health":
            self.answer(500, "broken")
        else:
            time.sleep(0.3 if MODE == "slow" and self.path == "/slow" else 0)
            self.answer(200, f"{os.environ['ASBUILT_NODE']} {os.environ['ASBUILT_RELEASE']} {self.path}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with Path(os.environ["LEDGER"]).open("ab", buffering=0) as file:
            file.write(body + b"\n")
        time.sleep(0.02)
        self.answer(201, f"{os.environ['ASBUILT_NODE']} {os.environ['ASBUILT_RELEASE']} {body.decode()}")

    def stream(self, seconds: float) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.wfile.write(b"5\r\ntick\n\r\n")
            time.sleep(0.1)
        self.wfile.write(b"4\r\nend\n\r\n0\r\n\r\n")

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    # at SIGTERM the requests under way finish: the main thread waits for theirs
    daemon_threads = False
    request_queue_size = 512


Server((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
