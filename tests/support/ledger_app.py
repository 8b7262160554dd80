"""An app that acknowledges numbered writes: to the database after the commit, to the cache after its reply.

A read-only answer (25006) comes from a demoted primary: nothing was written, so it is tried again on a new
connection. A connection that breaks during a statement leaves open whether it was written: never tried again.
"""

from __future__ import annotations

import http.server
import os
import queue
import socketserver
import time

import psycopg
import redis

PATIENCE = 4.0


class Pool:
    """Connections that are kept open while nobody uses them."""

    def __init__(self, size: int) -> None:
        self.idle: queue.LifoQueue[psycopg.Connection[tuple[object, ...]] | None] = queue.LifoQueue()
        for _ in range(size):
            self.idle.put(None)

    def insert(self, kind: str, number: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            connection = self.idle.get()
            try:
                if connection is None:
                    connection = psycopg.connect(
                        os.environ["DATABASE_URL"], autocommit=True, connect_timeout=2, tcp_user_timeout=3000
                    )
            except psycopg.Error:
                self.idle.put(None)
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.03)
                continue
            try:
                connection.execute("INSERT INTO ledger VALUES (%s, %s)", (kind, number))
            except psycopg.Error as error:
                connection.close()
                self.idle.put(None)
                read_only = isinstance(error, psycopg.errors.ReadOnlySqlTransaction)
                if not read_only or time.monotonic() > deadline:
                    raise
                time.sleep(0.03)
            else:
                self.idle.put(connection)
                return


POOL = Pool(8)
SELDOM = Pool(1)
CACHE = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=2, socket_connect_timeout=2, retry=None)


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120

    def answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(200, os.environ["ASBUILT_NODE"])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        _, kind, number = self.path.split("/")
        try:
            if kind == "cache":
                CACHE.set(f"ledger:{number}", number)
            else:
                (SELDOM if kind == "seldom" else POOL).insert(kind, int(number))
        except (psycopg.Error, redis.RedisError, OSError) as error:
            self.answer(503, f"{type(error).__name__}: {error}")
        else:
            self.answer(201, number)

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
