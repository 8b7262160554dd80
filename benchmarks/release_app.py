"""An app to release under load: quick, with streams, a ledger of POSTs, and a share of failures on demand.

Its settings are in `settings.json` beside it, so that each change of them is another release. At SIGTERM it
stops listening and ends when the requests under way are answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path

SETTINGS = json.loads(Path(__file__).with_name("settings.json").read_text())
RELEASE = os.environ["ASBUILT_RELEASE"]
LEDGER = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND)


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            length = 0
            for line in head.split("\r\n"):
                if line.lower().startswith("content-length:"):
                    length = int(line.partition(":")[2])
            body = await reader.readexactly(length)
            if path.startswith("/stream"):
                await stream(writer, float(path.partition("=")[2]))
            else:
                await asyncio.sleep(0 if path == "/health" else SETTINGS["pause"])
                fails = path != "/health" and random.random() < SETTINGS["fails"]
                if method == "POST":
                    os.write(LEDGER, body + b"\n")
                text = RELEASE.encode()
                status = b"500 Internal Server Error" if fails else b"200 OK"
                writer.write(
                    b"HTTP/1.1 %s\r\nX-Release: %s\r\nContent-Length: %d\r\n\r\n%s"
                    % (status, text, len(text), text)
                )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def stream(writer: asyncio.StreamWriter, seconds: float) -> None:
    """A line each tenth of a second, and a last one."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        writer.write(b"5\r\ntick\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)
    writer.write(b"4\r\nend\n\r\n0\r\n\r\n")


async def main() -> None:
    """Listen until SIGTERM, then finish."""
    time.sleep(SETTINGS["start"])  # noqa: ASYNC251 - a start that computes
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    server = await asyncio.start_server(converse, os.environ["HOST"], int(os.environ["PORT"]), backlog=512)
    await over.wait()
    server.close()


asyncio.run(main())
