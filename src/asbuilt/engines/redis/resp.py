"""The Redis protocol, as little of it as is needed to ask a question.

Only the standard library, so that a command that runs before each start of a node starts fast.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Self

if TYPE_CHECKING:
    from types import TracebackType

Reply = str | int | list["Reply"] | None


class ReplyError(Exception):
    """The server answered with an error, like NOAUTH or LOADING."""


def encode(*words: str) -> bytes:
    """A command in the form that needs no quoting."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def read_reply(stream: BinaryIO) -> Reply:
    """One reply. Raises ReplyError for an error and ConnectionError when the server goes away."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server closed the connection")
    kind, rest = line[:1], line[1:-2].decode(errors="replace")
    if kind == b"-":
        raise ReplyError(rest)
    if kind == b":":
        return int(rest)
    if kind == b"$":
        size = int(rest)
        return None if size < 0 else stream.read(size + 2)[:-2].decode(errors="replace")
    if kind == b"*":
        return None if int(rest) < 0 else [read_reply(stream) for _ in range(int(rest))]
    return rest


@dataclass
class Client:
    """One connection. `ask` sends a command and returns its reply; errors are OSError or ReplyError.

    Args:
        host: address.
        port: port.
        password: empty for none.
        user: empty for the default user.
        timeout: seconds for each step.
        source: address to come from, or None.
    """

    host: str
    port: int
    password: str = ""
    user: str = ""
    timeout: float = 1.0
    source: str | None = None

    def __post_init__(self) -> None:
        """Connect and log in."""
        source = (self.source, 0) if self.source else None
        self._socket = socket.create_connection((self.host, self.port), self.timeout, source)
        self._stream = self._socket.makefile("rb")
        if self.password:
            try:
                self.ask(*(("AUTH", self.user, self.password) if self.user else ("AUTH", self.password)))
            except (OSError, ReplyError):
                self.close()
                raise

    def ask(self, *words: str) -> Reply:
        """The reply to one command."""
        self._socket.sendall(encode(*words))
        return read_reply(self._stream)

    def info(self, section: str) -> dict[str, str]:
        """A section of INFO as a mapping."""
        said = self.ask("INFO", section)
        lines = said.splitlines() if isinstance(said, str) else []
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
