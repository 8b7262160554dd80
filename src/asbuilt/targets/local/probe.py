"""Ask one `Exchange` and tell the three outcomes apart: as expected, otherwise, not at all.

Invariant: an exchange never takes longer than its timeout, and what was sent is never part of the answer's
words (it may hold a password).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

from asbuilt.targets.local.names import short_socket_path

if TYPE_CHECKING:
    from asbuilt.plan.workload import ClientTls, Exchange

_LONGEST_ANSWER = 65536
_SHOWN_BYTES = 160


class Outcome(Enum):
    """What came of a question."""

    GOOD = "good"
    BAD = "bad"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome, and for people what was got."""

    outcome: Outcome
    got: str


@lru_cache(maxsize=64)
def _context(tls: ClientTls, _changed: tuple[int, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def _tls_context(tls: ClientTls) -> ssl.SSLContext:
    # a renewed certificate is a new file time, and so a new context
    return _context(tls, tuple(os.stat(p).st_mtime_ns for p in (tls.ca, tls.certificate, tls.key)))  # noqa: PTH116


@lru_cache(maxsize=256)
def _pattern(expect: str) -> re.Pattern[bytes]:
    return re.compile(expect.encode(), re.DOTALL)


def _show(data: bytes) -> str:
    text = data[:_SHOWN_BYTES].decode("utf-8", "replace")
    line = " ".join(text.split())
    return f"answered {line!r}" if line else "answered nothing readable"


async def _connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, exchange: Exchange) -> None:
    if exchange.host.startswith("unix:"):
        path, descriptor = short_socket_path(exchange.host.removeprefix("unix:"))
        try:
            await loop.sock_connect(sock, path)
        finally:
            if descriptor is not None:
                os.close(descriptor)
    else:
        await loop.sock_connect(sock, (exchange.host, exchange.port))


def _family(host: str) -> socket.AddressFamily:
    if host.startswith("unix:"):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _verdict(exchange: Exchange, data: bytes) -> Answer | None:
    if not exchange.expect or _pattern(exchange.expect).search(data):
        return Answer(Outcome.GOOD, _show(data) if data else "connected")
    return Answer(Outcome.BAD, _show(data)) if len(data) >= _LONGEST_ANSWER else None


async def _talk_plain(sock: socket.socket, exchange: Exchange, heard: bytearray) -> Answer:
    loop = asyncio.get_running_loop()
    await _connect(loop, sock, exchange)
    if exchange.send:
        await loop.sock_sendall(sock, exchange.send)
    while (verdict := _verdict(exchange, bytes(heard))) is None:
        part = await loop.sock_recv(sock, 16384)
        if not part:
            return _ended(heard)
        heard += part
    return verdict


async def _talk_tls(sock: socket.socket, exchange: Exchange, tls: ClientTls, heard: bytearray) -> Answer:
    await _connect(asyncio.get_running_loop(), sock, exchange)
    reader, writer = await asyncio.open_connection(
        sock=sock, ssl=_tls_context(tls), server_hostname=tls.server_name
    )
    try:
        writer.write(exchange.send)
        while (verdict := _verdict(exchange, bytes(heard))) is None:
            part = await reader.read(16384)
            if not part:
                return _ended(heard)
            heard += part
        return verdict
    finally:
        writer.transport.abort()


def _ended(heard: bytearray) -> Answer:
    if heard:
        return Answer(Outcome.BAD, _show(bytes(heard)))
    return Answer(Outcome.SILENT, "the connection was closed without an answer")


async def ask(exchange: Exchange) -> Answer:
    """Ask once. Never raises for what the other side or the network does."""
    heard = bytearray()
    sock = socket.socket(_family(exchange.host), socket.SOCK_STREAM)
    sock.settimeout(0)
    try:
        async with asyncio.timeout(exchange.timeout):
            if exchange.tls is not None:
                return await _talk_tls(sock, exchange, exchange.tls, heard)
            return await _talk_plain(sock, exchange, heard)
    except TimeoutError:
        if heard:
            return Answer(Outcome.BAD, _show(bytes(heard)))
        return Answer(Outcome.SILENT, f"no answer within {exchange.timeout:g} s")
    except OSError as error:
        if heard:
            return Answer(Outcome.BAD, _show(bytes(heard)))
        # a refused certificate is an answer of a living process
        outcome = Outcome.BAD if isinstance(error, ssl.SSLError) else Outcome.SILENT
        return Answer(outcome, error.strerror or str(error) or type(error).__name__)
    finally:
        sock.close()
