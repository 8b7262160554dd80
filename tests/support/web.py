"""A backend server of a few lines whose behaviour a test can change, and a client that counts failures."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from asbuilt.plan.workload import render_http_get
from support import until
from support.launcher import answers

SERVER = """
import asyncio, json, os, sys
name, host, port, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            line, *rest = head.decode("latin-1").split("\\r\\n")
            headers = {k.lower(): v for k, _, v in (one.partition(": ") for one in rest if one)}
            if "content-length" in headers:
                await reader.readexactly(int(headers["content-length"]))
            if os.path.exists(folder + "/hang"):
                await asyncio.sleep(3600)
            status = "200 OK"
            if "/health" in line and (os.path.exists(folder + "/sick")):
                status = "503 Sick"
            if headers.get("upgrade") == "websocket":
                writer.write(b"HTTP/1.1 101 Switching\\r\\nConnection: upgrade\\r\\nUpgrade: websocket\\r\\n"
                             b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n")
                while data := await reader.read(100):
                    writer.write(data)
                return
            if "/slow" in line:
                await asyncio.sleep(1)
            body = json.dumps({"name": name, "line": line, "headers": headers}).encode()
            writer.write(f"HTTP/1.1 {status}\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n".encode() + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()

async def main():
    server = await asyncio.start_server(serve, host, port, backlog=1024)
    await server.serve_forever()

asyncio.run(main())
"""


@dataclass
class Web:
    """One backend server."""

    name: str
    host: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-c", SERVER, self.name, self.host, str(self.port), str(self.folder)]
        self.process = subprocess.Popen(argv, cwd=self.folder)
        asked = render_http_get(self.host, self.port, "/", expect_status="200")
        until(lambda: answers(asked), what=f"{self.name} to listen")

    def flag(self, name: str, *, on: bool) -> None:
        path = self.folder / name
        path.touch() if on else path.unlink(missing_ok=True)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@dataclass
class Load:
    """Clients that send GET requests over TLS, each on its own connection, until `stop`."""

    host: str
    port: int
    authority: Path
    clients: int = 4
    good: int = 0
    failed: list[str] = field(default_factory=list)
    slowest: float = 0.0
    by_name: dict[str, int] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for _ in range(self.clients):
            thread = threading.Thread(target=self._run)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(90)

    def _run(self) -> None:
        context = ssl.create_default_context(cafile=self.authority)
        while not self._over.is_set():
            client = http.client.HTTPSConnection(self.host, self.port, timeout=60, context=context)
            try:
                for _ in range(50):
                    if self._over.is_set():
                        break
                    begun = time.monotonic()
                    client.request("GET", "/item")
                    answer = client.getresponse()
                    body = answer.read()
                    with self._lock:
                        self.slowest = max(self.slowest, time.monotonic() - begun)
                        if answer.status == 200:
                            self.good += 1
                            name = json.loads(body)["name"]
                            self.by_name[name] = self.by_name.get(name, 0) + 1
                        else:
                            self.failed.append(f"{answer.status} {body[:100]!r}")
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.failed.append(repr(error))
            finally:
                client.close()
