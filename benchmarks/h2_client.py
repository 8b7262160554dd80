"""One request at a time over HTTP/2, as a browser treats the end of a connection.

RFC 9113, 6.8: after a GOAWAY the streams up to the one that it names are answered, those above were not and
will not be executed, and are asked again on another connection. (The library h2 ends the connection with the
GOAWAY, so a request that is answered after it would be lost to it.)
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Final, Self
from urllib.parse import urlsplit

from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER: Final = 9
_REFUSED_STREAM: Final = 7
_TIMEOUT: Final = 30.0
_TRIES: Final = 3


class RefusedError(Exception):
    """The request was not executed."""


class H2Client:
    """A client of one origin; certificates are not checked."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (str(parts.hostname), parts.port or 443)
        self._authority = parts.netloc
        self._socket: ssl.SSLSocket | None = None
        self._heard = b""
        self._stream = 1
        self._leaving = False
        self._encoder, self._decoder = Encoder(), Decoder()

    def __enter__(self) -> Self:
        """Open nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._close()

    def post(self, path: str, body: bytes) -> int:
        """The status of the answer. Raises OSError when a request that may have been executed has none."""
        for _ in range(_TRIES):
            if self._socket is None or self._leaving:
                self._open()
            with suppress(RefusedError):
                return self._ask(path, body)
        raise OSError("refused by a GOAWAY three times")

    def _open(self) -> None:
        self._close()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(self._address, timeout=_TIMEOUT)
        self._socket = context.wrap_socket(plain, server_hostname=self._address[0])
        self._heard, self._stream, self._leaving = b"", 1, False
        self._encoder, self._decoder = Encoder(), Decoder()
        self._socket.sendall(_PREFACE + SettingsFrame(0).serialize())

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, path: str, body: bytes) -> int:
        stream, self._stream = self._stream, self._stream + 2
        head = HeadersFrame(stream, flags=["END_HEADERS"])
        head.data = self._encoder.encode(
            [
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", self._authority),
                (":path", path),
                ("content-length", str(len(body))),
            ]
        )
        # what cannot be sent may still be answered: a GOAWAY that was received says whether it will be
        self._send(head, DataFrame(stream, body, flags=["END_STREAM"]))
        status = 0
        while True:
            frame = self._receive()
            self._answer(frame)
            if isinstance(frame, GoAwayFrame):
                self._leaving = True
                if stream > frame.last_stream_id:
                    raise RefusedError
            elif frame.stream_id == stream:
                if isinstance(frame, RstStreamFrame):
                    _judge(frame)
                if isinstance(frame, HeadersFrame):
                    status = int(dict(self._decoder.decode(frame.data, raw=True))[b":status"])
                if "END_STREAM" in frame.flags:
                    return status

    def _answer(self, frame: Frame) -> None:
        """What the protocol asks of us."""
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self._send(SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self._send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, DataFrame) and frame.flow_controlled_length:
            self._send(WindowUpdateFrame(0, frame.flow_controlled_length))

    def _send(self, *frames: Frame) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendall(b"".join(frame.serialize() for frame in frames))

    def _receive(self) -> Frame:
        frame, length = Frame.parse_frame_header(memoryview(self._take(_HEADER)))
        frame.parse_body(memoryview(self._take(length)))
        return frame

    def _take(self, count: int) -> bytes:
        while len(self._heard) < count:
            part = self._socket.recv(65536) if self._socket is not None else b""
            if not part:
                self._close()
                raise OSError("the connection was closed without an answer")
            self._heard += part
        taken, self._heard = self._heard[:count], self._heard[count:]
        return taken


def _judge(reset: RstStreamFrame) -> None:
    """A stream that was reset was not executed, or may have been."""
    if reset.error_code == _REFUSED_STREAM:
        raise RefusedError
    raise OSError(f"the stream was reset: {reset.error_code}")
