"""An app whose releases differ in how they behave: tests change MODE, which makes another release."""

import http.server
import os
import random
import socketserver
import sys
import threading
import time
from pathlib import Path

MODE = "good"
OWN = {"/health", "/smoke"}
"""Paths that no user asks for."""
KEPT: list[object] = []
ORDERS = 0
PAUSE = float(os.environ.get("PAUSE", "0"))


def count_order() -> None:
    global ORDERS  # noqa: PLW0603 - the counter of the whole process
    ORDERS += 1


if MODE == "dying":
    threading.Timer(6, os._exit, (1,)).start()
if f"lame {os.environ['ASBUILT_NODE']}" == MODE:
    sys.exit("this server does not start")
if MODE == "dead":
    sys.exit("this release does not start")


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if MODE == "sick" and self.path == "/health":
            self.answer(503, "sick")
        elif MODE == "smoky" and self.path == "/smoke":
            self.answer(500, "smoke")
        elif self.path == "/metrics":
            self.answer(200, f'# TYPE orders_total counter\norders_total{{kind="any"}} {ORDERS}\n')
        elif self.path.startswith("/stream"):
            self.stream(float(self.path.partition("=")[2] or "3"))
        elif MODE.startswith("fails ") and self.path not in OWN and random.random() < float(MODE.split()[1]):
            self.answer(500, "broken")
        else:
            if MODE != "fewer orders" or random.random() < 0.3:
                count_order()
            if MODE == "leak" and self.path not in OWN:
                KEPT.extend(Path(__file__).open() for _ in range(50))  # noqa: SIM115 - that is the leak
            time.sleep(0.3 if MODE == "slow" and self.path == "/slow" else PAUSE)
            self.answer(200, f"{os.environ['ASBUILT_NODE']} {os.environ['ASBUILT_RELEASE']} {self.path}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if MODE == "post":
            self.answer(500, "broken")
            return
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
