"""Sealing: zstd, then age, as a stream in constant memory. Opened with `age -d -i KEY FILE | zstd -d`.

Invariant: what was not sealed whole cannot be opened whole. age marks the last piece of a stream, so one that
was cut anywhere is an error; and when the source fails, that mark is never written.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, cast

import pyrage
import zstandard

from asbuilt.exec.streams import CHUNK, Counted, Measured, Pipe, Readable, Stream, Through
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL: Final = 1
"""Twice as fast as zstd's default for a few percent of room: a backup must not take longer than its copy."""
_KEY_WORD: Final = "AGE-SECRET-KEY-"
_PROOF: Final = 16
"""Bytes of the word that proves the end, see `_Opened`."""


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals for every one of `recipients` (`age1...`): each of their keys alone opens it.

    Raises AsbuiltError SEAL-003 when one of them is no recipient, or when there is none.
    """

    recipients: tuple[str, ...]

    def __post_init__(self) -> None:
        check_recipients(self.recipients)

    def seal(self, reader: Readable) -> Sealed:
        """The sealed stream of a clear one, which is read as the sealed one is read. Close it after use."""
        return Sealed(reader, self.recipients)


class Sealed(Stream):
    """A sealed stream. Sizes and digests are complete when it was read to its end."""

    def __init__(self, reader: Readable, recipients: tuple[str, ...]) -> None:
        super().__init__()
        self.clear = Counted(reader)
        """Size of what went in. Its digest would cost a third of the time, and age proves it anyway."""
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        clear = cast("IO[bytes]", self.clear)  # it only reads
        packed = compressor.stream_reader(clear, read_size=CHUNK, closefd=False)
        keys = [pyrage.x25519.Recipient.from_str(one) for one in dict.fromkeys(recipients)]

        def encrypt(pipe: Pipe) -> None:
            pyrage.encrypt_io(pipe, pipe, keys)

        self._source = Through(packed, encrypt, name="seal", translate=_not_sealed)
        self.meter = self.sealed = Measured(self._source)
        """Size and SHA-256 of what came out."""

    def _next(self) -> bytes:
        return self.sealed.read(CHUNK)

    def close(self) -> None:
        """Stop, wherever it is. The clear stream stays open: it is the caller's."""
        self._source.close()
        super().close()


def open_sealed(reader: Readable, identities: Sequence[Secret], *, name: str = "") -> Stream:
    """The clear bytes of a sealed stream, which is read as they are read. Close it after use.

    What is read before an error is whole and unchanged, as far as it goes.

    Args:
        reader: the sealed stream; stays open.
        identities: secret keys (`AGE-SECRET-KEY-...`), of which one must fit.
        name: what is opened, for errors.

    Raises AsbuiltError SEAL-004 when an identity is no key; when it is read, SEAL-001 when none of them fits,
    SEAL-002 when it is damaged or cut off.
    """
    return _Opened(reader, identities, name)


class _Opened(Stream):
    """The opening side.

    zstandard does not tell a stream that ends within a frame from one that ends. So one more frame with a
    random word follows the source's bytes: only when they ended with a whole frame, the word comes out at the
    end. (In the frame a checksum stands behind the word: taken for the rest of a frame that was cut, it gives
    no word.)
    """

    def __init__(self, reader: Readable, identities: Sequence[Secret], name: str) -> None:
        super().__init__()
        keys = [_parse_identity(one) for one in identities]
        tried = tuple(str(key.to_public()) for key in keys)

        def decrypt(pipe: Pipe) -> None:
            pyrage.decrypt_io(pipe, pipe, keys)

        self._name = name
        self._source = Through(
            reader, decrypt, name="open", translate=lambda error: _not_opened(error, name, tried)
        )
        self._proof = secrets.token_bytes(_PROOF)
        frame = zstandard.ZstdCompressor(write_checksum=True).compress(self._proof)
        self._packed = _Followed(self._source, frame)
        self._clear = zstandard.ZstdDecompressor().stream_reader(
            cast("IO[bytes]", self._packed),  # it only reads
            read_size=CHUNK,
            read_across_frames=True,
            closefd=False,
        )
        self._held = b""
        self._ended = False

    def _next(self) -> bytes:
        while not self._ended:
            try:
                chunk = self._clear.read(CHUNK)
            except zstandard.ZstdError as error:
                raise _damaged(self._name, str(error)) from None
            found = self._held + chunk
            given, self._held = found[:-_PROOF], found[-_PROOF:]
            if given:
                return given
            self._ended = not chunk
        if self._held != self._proof or self._packed.empty:
            raise _damaged(self._name, "it does not end with the end of a zstd frame")
        return b""

    def close(self) -> None:
        """Stop, wherever it is."""
        self._source.close()
        super().close()


class _Followed:
    """A stream and some bytes behind it."""

    def __init__(self, reader: Readable, tail: bytes) -> None:
        self._reader = reader
        self._tail = tail
        self.empty = True
        """Whether the stream had no bytes of its own."""

    def read(self, size: int) -> bytes:
        """The stream's bytes, then the others."""
        chunk = self._reader.read(size)
        if chunk:
            self.empty = False
        else:
            chunk, self._tail = self._tail[:size], self._tail[size:]
        return chunk


def make_identity() -> tuple[Secret, str]:
    """A new key: the secret half, which opens, and the recipient, for whom it is sealed."""
    identity = pyrage.x25519.Identity.generate()
    return Secret(str(identity)), str(identity.to_public())


def find_recipient(identity: Secret) -> str:
    """The recipient (`age1...`) whose secret half this is. Raises AsbuiltError SEAL-004."""
    return str(_parse_identity(identity).to_public())


def parse_identities(text: str) -> tuple[Secret, ...]:
    """The keys in the text of a key file as `age-keygen` writes it: one a line, `#` before a comment.

    Raises AsbuiltError SEAL-004 when a line is something else, or when there is no key.
    """
    lines = [line.strip() for line in text.splitlines()]
    found = tuple(Secret(line) for line in lines if line and not line.startswith("#"))
    for one in found:
        _parse_identity(one)
    if not found:
        raise _no_identity("there is no key in it")
    return found


def check_recipients(recipients: Sequence[str]) -> None:
    """Raise AsbuiltError SEAL-003 unless these are recipients, and at least one."""
    if not recipients:
        raise _no_recipient("backups need at least one recipient to seal them for")
    for one in recipients:
        try:
            pyrage.x25519.Recipient.from_str(one)
        except pyrage.RecipientError:
            if one.upper().startswith(_KEY_WORD):  # never shown: it is the secret half
                raise _no_recipient("a secret key stands where a recipient belongs") from None
            raise _no_recipient(f"{one!r} is no recipient of age") from None


def _parse_identity(identity: Secret) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(identity.reveal().strip())
    except pyrage.IdentityError:
        raise _no_identity("a key is damaged, or is none") from None


def _no_recipient(what: str) -> AsbuiltError:
    return AsbuiltError(
        "SEAL-003",
        what,
        hint="a recipient starts with age1 and has 62 characters: age-keygen prints it as the public key",
    )


def _no_identity(what: str) -> AsbuiltError:
    return AsbuiltError(
        "SEAL-004",
        f"no secret key to open backups with: {what}",
        hint=f"a key is one line that starts with {_KEY_WORD}1, as age-keygen writes it",
    )


def _not_sealed(error: BaseException) -> BaseException:
    return AsbuiltError("SEAL-005", f"sealing failed: {error}", hint="free some memory and try again")


def _not_opened(error: BaseException, name: str, tried: tuple[str, ...]) -> BaseException:
    # pyrage has one error for all, with the words of the age library
    if isinstance(error, pyrage.DecryptError) and "No matching keys" in str(error):
        keys = ", ".join(tried) if tried else "no key"
        return AsbuiltError(
            "SEAL-001",
            f"a backup cannot be opened with {keys}",
            where=name,
            hint="it was sealed for other keys: give the key of a recipient that the spec had at the time",
        )
    return _damaged(name, str(error))


def _damaged(name: str, why: str) -> AsbuiltError:
    return AsbuiltError(
        "SEAL-002",
        f"a backup is damaged or cut off: {why}",
        where=name,
        hint="use another backup; asbuilt backups shows which ones are good",
    )
