"""Sealing: opened by the standard tools, and never whole when the source was not."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pyrage
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asbuilt.exec.sealing import (
    Sealer,
    check_recipients,
    find_recipient,
    make_identity,
    open_sealed,
    parse_identities,
)
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret
from support.streaming import BrokenError, Choppy, no_thread_left

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY, RECIPIENT = make_identity()
OTHER_KEY, OTHER_RECIPIENT = make_identity()
SEALER = Sealer((RECIPIENT,))


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    with no_thread_left():
        yield


def seal(content: bytes) -> bytes:
    with SEALER.seal(io.BytesIO(content)) as stream:
        return stream.read()


def unseal(sealed: bytes, *keys: Secret) -> bytes:
    with open_sealed(Choppy(sealed), keys or (KEY,), name="base/1") as stream:
        return stream.read()


def by_hand(sealed: bytes) -> bytes:
    """What `age -d | zstd -d` gives, by the libraries' own functions."""
    packed = pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(KEY.reveal())])
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).readall()


CONTENT = {
    "empty": b"",
    "a byte": b"x",
    "zeros": bytes(50_000_000),
    "text": b"line of a dump\n" * 200_000,
    "noise": random.Random(1).randbytes(3_000_000),
}


@pytest.mark.parametrize("name", CONTENT)
def test_it_opens_by_hand_and_here(name: str) -> None:
    content = CONTENT[name]
    with SEALER.seal(Choppy(content, seed=3)) as stream:
        sealed = stream.read()
    assert by_hand(sealed) == content
    assert unseal(sealed) == content
    assert stream.clear.size == len(content)
    assert (stream.sealed.size, stream.sealed.sha256) == (len(sealed), hashlib.sha256(sealed).hexdigest())
    assert len(sealed) < len(content) + len(content) // 2000 + 1000


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd here")
def test_the_zstd_program_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "packed.zst"
    file.write_bytes(pyrage.decrypt(seal(CONTENT["text"]), [pyrage.x25519.Identity.from_str(KEY.reveal())]))
    done = subprocess.run(["zstd", "-d", "-c", str(file)], capture_output=True, check=True)
    assert done.stdout == CONTENT["text"]


@given(content=st.binary(max_size=200_000), seed=st.integers(0, 9), size=st.integers(1, 100_000))
@settings(max_examples=25)
def test_sealed_and_opened_is_the_same(content: bytes, seed: int, size: int) -> None:
    with (
        SEALER.seal(Choppy(content, seed=seed)) as sealed,
        open_sealed(sealed, [OTHER_KEY, KEY]) as clear,
    ):
        assert b"".join(iter(lambda: clear.read(size), b"")) == content


def test_every_recipient_opens_it_alone() -> None:
    with Sealer((RECIPIENT, OTHER_RECIPIENT, RECIPIENT)).seal(io.BytesIO(b"both")) as stream:
        sealed = stream.read()
    assert unseal(sealed) == unseal(sealed, OTHER_KEY) == b"both"


def test_frames_one_behind_the_other_are_one_stream() -> None:
    pack = zstandard.ZstdCompressor().compress
    sealed = pyrage.encrypt(pack(b"one ") + pack(b"") + pack(b"two"), [to(RECIPIENT)])
    assert unseal(sealed) == b"one two"


def to(recipient: str) -> pyrage.x25519.Recipient:
    return pyrage.x25519.Recipient.from_str(recipient)


@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
def test_a_source_that_fails_never_gives_something_whole(size: int) -> None:
    got: list[bytes] = []
    with SEALER.seal(Choppy(os.urandom(size), fails=True)) as stream, pytest.raises(BrokenError):
        got.extend(iter(lambda: stream.read(10_000), b""))
    with pytest.raises(AsbuiltError) as caught:
        unseal(b"".join(got))
    assert caught.value.code == "SEAL-002"


@given(st.data())
@settings(max_examples=25)
def test_cut_or_flipped_it_is_never_taken_for_whole(data: st.DataObject) -> None:
    sealed = bytearray(SEALED)
    place = data.draw(st.integers(0, len(sealed) - 1))
    if data.draw(st.booleans()):
        damaged = bytes(sealed[:place])
    else:
        sealed[place] ^= 1 << data.draw(st.integers(0, 7))
        damaged = bytes(sealed)
    with pytest.raises(AsbuiltError) as caught:
        unseal(damaged)
    # a flipped bit in its first lines may make it look like sealed for somebody else
    assert caught.value.code == "SEAL-002" or (caught.value.code == "SEAL-001" and place < 200)
    assert caught.value.where == "base/1"


SEALED = seal(random.Random(2).randbytes(150_000) + bytes(500_000))


NOISE = zstandard.ZstdCompressor().compress(random.Random(3).randbytes(400_000))
WORDS = zstandard.ZstdCompressor().compress(b" ".join(b"%d" % (n * n) for n in range(60_000)))


@given(st.sampled_from([NOISE, WORDS]), st.floats(0, 1, exclude_max=True))
@settings(max_examples=25)
@example(WORDS, 0.0)
@example(WORDS, 0.001)
@example(NOISE, 0.2)
def test_a_frame_that_was_cut_before_it_was_sealed_is_noticed(packed: bytes, part: float) -> None:
    cut = packed[: int(part * len(packed))]
    with pytest.raises(AsbuiltError) as caught:
        unseal(pyrage.encrypt(cut, [to(RECIPIENT)]))
    assert caught.value.code == "SEAL-002"


@pytest.mark.parametrize("more", [b"x", seal(b"another")])
def test_bytes_behind_the_end_are_damage(more: bytes) -> None:
    with pytest.raises(AsbuiltError) as caught:
        unseal(seal(b"one") + more)
    assert caught.value.code == "SEAL-002"


def test_the_wrong_key_says_which_one_was_tried() -> None:
    with pytest.raises(AsbuiltError) as caught:
        unseal(SEALED, OTHER_KEY)
    assert caught.value.code == "SEAL-001"
    assert OTHER_RECIPIENT in caught.value.what
    assert OTHER_KEY.reveal() not in str(caught.value.to_json())


def test_an_error_of_who_brings_the_sealed_bytes_stays_what_it_is() -> None:
    with (
        open_sealed(Choppy(SEALED[:100_000], fails=True), [KEY]) as stream,
        pytest.raises(BrokenError),
    ):
        stream.read()


def test_closing_early_on_both_sides() -> None:
    source = io.BytesIO(os.urandom(20_000_000))
    sealed = SEALER.seal(source)
    clear = open_sealed(sealed, [KEY])
    assert clear.read(10)
    clear.close()
    sealed.close()
    assert source.tell() < 10_000_000


def test_zeros_by_the_gigabyte_do_not_fill_the_memory() -> None:
    with open_sealed(SEALER.seal(io.BytesIO(bytes(100_000_000))), [KEY]) as stream:
        assert max(len(chunk) for chunk in iter(lambda: stream.read(10**9), b"")) < 1_000_000


@pytest.mark.parametrize(
    ("recipients", "said"),
    [
        ((), "at least one"),
        (("age1short",), "'age1short'"),
        ((RECIPIENT, "ssh-ed25519 AAAA"), "'ssh-ed25519 AAAA'"),
        ((KEY.reveal(),), "secret key"),
        ((KEY.reveal().lower(),), "secret key"),
    ],
)
def test_recipients_that_are_none(recipients: tuple[str, ...], said: str) -> None:
    with pytest.raises(AsbuiltError) as caught:
        check_recipients(recipients)
    assert caught.value.code == "SEAL-003"
    assert said in caught.value.what
    assert caught.value.hint
    assert KEY.reveal() not in caught.value.render().upper()
    with pytest.raises(AsbuiltError):
        Sealer(recipients)


def test_identities() -> None:
    assert RECIPIENT.startswith("age1")
    assert find_recipient(KEY) == RECIPIENT
    text = f"# created: 2026-11-26\n# public key: {RECIPIENT}\n{KEY.reveal()}\n\n {OTHER_KEY.reveal()} \n"
    assert parse_identities(text) == (KEY, OTHER_KEY)


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "AGE-SECRET-KEY-1QQQ", f"{RECIPIENT}\n"],
    ids=["", "comment", "cut", "recipient"],
)
def test_identities_that_are_none(text: str) -> None:
    with pytest.raises(AsbuiltError) as caught:
        parse_identities(text)
    assert caught.value.code == "SEAL-004"
    assert "QQQ" not in caught.value.render()
    with pytest.raises(AsbuiltError):
        open_sealed(io.BytesIO(), [Secret("nonsense")])
