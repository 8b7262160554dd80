"""The parts of backups that need no database: what is shipped from a spool, what is read out of a tar."""

from __future__ import annotations

import io
import random
import tarfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from asbuilt.exec.sealing import Sealer, make_identity, open_sealed
from asbuilt.exec.store import open_memory
from asbuilt.operations.backup.shipper import Received, Shipper, read_spool
from asbuilt.operations.backup.tarwatch import TarWatch
from asbuilt.plan.stored import Stored, gather
from asbuilt.plan.wal import SEGMENT_SIZE, Lsn
from asbuilt.record.catalogue import Catalogue
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asbuilt.exec.store import Store
    from asbuilt.values.secret import Secret

SEGMENT = "000000010000000000000001"
NEXT = "000000010000000000000002"
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Yard:
    """A spool, a store, and who ships from one to the other."""

    def __init__(self, folder: Path) -> None:
        self.spool = folder / "spool"
        self.spool.mkdir()
        self.store: Store = open_memory()
        self.identity: Secret
        self.identity, recipient = make_identity()
        self.now = 1_000_000.0
        self.catalogue = Catalogue.open(folder / "catalogue", clock=lambda: self.now)
        self.sealer = Sealer((recipient,))
        self.begin()

    def begin(self) -> None:
        """Another process, which knows what the catalogue knows."""
        self.shipper = Shipper(self.spool, self.store, self.sealer, self.catalogue, lambda: self.now)

    def receive(self, name: str, content: bytes) -> None:
        """What pg_receivewal does: a file that is as long as a segment, with zeros behind what came."""
        path = self.spool / name
        path.write_bytes(content.ljust(SEGMENT_SIZE, b"\0"))

    def read(self, key: str) -> bytes:
        with self.store.get(key) as sealed, open_sealed(sealed, [self.identity]) as clear:
            return bytes(clear.read())

    def named(self) -> list[str]:
        return [entry.key for entry in self.store.list()]

    def rebuilt(self, timeline: int, number: int) -> bytes:
        """The segment as a restore would make it of what is stored."""
        stored = [Stored(one.key, one.size, one.sha256, MOMENT) for one in self.catalogue.stored("wal/")]
        held = gather(stored)[0][timeline][number]
        made = bytearray(SEGMENT_SIZE)
        for one in held.objects:
            offset = 0 if held.whole else int(one.key.rsplit(".zst", 1)[0].rsplit(".", 1)[1][:8], 16)
            content = self.read(one.key)
            made[offset : offset + len(content)] = content
        return bytes(made)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    made.catalogue.close()


def test_pieces_grow_with_the_segment_and_make_it_again(yard: Yard) -> None:
    chance = random.Random(1)
    content = b""
    for _ in range(6):
        content += chance.randbytes(chance.randrange(1, 40_000))
        yard.receive(f"{SEGMENT}.partial", content)
        yard.shipper.ship()
        assert yard.rebuilt(1, 1) == content.ljust(SEGMENT_SIZE, b"\0")
    mark = yard.catalogue.watermark()
    assert mark is not None
    assert Lsn.parse(mark.lsn) == SEGMENT_SIZE + len(content.rstrip(b"\0"))
    count = len(yard.named())
    yard.shipper.ship()
    assert len(yard.named()) == count, "nothing new, nothing sent"


def test_a_log_that_ends_in_zeros_is_known_to_its_end(yard: Yard) -> None:
    yard.receive(f"{SEGMENT}.partial", b"x" * 100)
    yard.shipper.ship()
    yard.shipper.ship(Received(1, Lsn(SEGMENT_SIZE + 128)))
    assert yard.rebuilt(1, 1) == (b"x" * 100).ljust(SEGMENT_SIZE, b"\0")
    ends = sorted(key.rsplit(".zst", 1)[0].rsplit("-", 1)[1] for key in yard.named())
    assert ends == ["00000064", "00000080"]
    yard.shipper.ship(Received(1, Lsn(SEGMENT_SIZE + 128)))
    yard.shipper.ship(Received(2, Lsn(SEGMENT_SIZE + 512)))
    assert len(yard.named()) == 2


def test_another_process_goes_on_where_the_last_one_was(yard: Yard) -> None:
    yard.receive(f"{SEGMENT}.partial", b"a" * 10_000)
    yard.shipper.ship()
    yard.begin()
    yard.receive(f"{SEGMENT}.partial", b"a" * 10_000 + b"b" * 10_000)
    yard.shipper.ship()
    assert yard.rebuilt(1, 1) == (b"a" * 10_000 + b"b" * 10_000).ljust(SEGMENT_SIZE, b"\0")
    ends = sorted(key.rsplit(".zst", 1)[0].rsplit(".", 1)[1] for key in yard.named())
    assert ends == ["00000000-00002710", "00002000-00004E20"], "from the page on that was being written"


def test_a_whole_segment_supersedes_its_pieces_after_a_while(yard: Yard) -> None:
    yard.receive(f"{SEGMENT}.partial", b"x" * 100)
    yard.shipper.ship()
    (yard.spool / f"{SEGMENT}.partial").unlink()
    whole = random.Random(2).randbytes(SEGMENT_SIZE)
    yard.receive(SEGMENT, whole)
    yard.receive(f"{NEXT}.partial", b"")
    yard.shipper.ship()
    assert yard.rebuilt(1, 1) == whole
    assert (yard.spool / SEGMENT).exists(), "pg_receivewal goes on where its files end"
    assert len(yard.named()) == 2
    yard.now += 3601
    yard.receive(NEXT, whole)
    yard.shipper.ship()
    assert not (yard.spool / SEGMENT).exists()
    assert sorted(yard.named()) == [f"wal/00000001/{SEGMENT}.zst.age", f"wal/00000001/{NEXT}.zst.age"]
    mark = yard.catalogue.watermark()
    assert mark is not None
    assert Lsn.parse(mark.lsn) == 3 * SEGMENT_SIZE


def test_a_store_that_is_away_loses_nothing(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = random.Random(3).randbytes(SEGMENT_SIZE)
    yard.receive(SEGMENT, whole)
    yard.receive(NEXT, whole)

    def away(*_: object, **__: object) -> None:
        raise AsbuiltError("STORE-001", "503")

    with monkeypatch.context() as patch:
        patch.setattr(yard.store, "put", away)
        with pytest.raises(AsbuiltError):
            yard.shipper.ship()
    assert read_spool(yard.spool).segments == (SEGMENT, NEXT)
    assert yard.catalogue.watermark() is None
    yard.shipper.ship()
    assert yard.rebuilt(1, 2) == whole


def test_after_a_failover_the_segment_begins_anew_on_the_next_timeline(yard: Yard) -> None:
    after = "000000020000000000000001"
    yard.receive(f"{SEGMENT}.partial", b"one" * 5000)
    yard.receive(f"{after}.partial", b"two" * 5000)
    (yard.spool / "00000002.history").write_text("1\t0/1003A98\tno recovery target specified\n")
    yard.shipper.ship()
    yard.shipper.ship()
    assert yard.read("wal/00000002.history.zst.age").startswith(b"1\t0/1003A98")
    assert yard.rebuilt(1, 1).startswith(b"one")
    assert yard.rebuilt(2, 1).startswith(b"two")
    assert read_spool(yard.spool).partials == (f"{after}.partial",), "the old one is stored and gone"
    mark = yard.catalogue.watermark()
    assert mark is not None
    assert mark.timeline == 2


@pytest.mark.parametrize("size", [1, 7, 512, 513, 4096, 10**6])
def test_a_tar_goes_by_unchanged_and_what_is_wanted_is_kept(size: int) -> None:
    made = io.BytesIO()
    chance = random.Random(size)
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, count in (("a", 0), ("wanted", 700), ("b", 512), ("c", 5000), ("other", 513)):
            info = tarfile.TarInfo(name)
            info.size = count
            tar.addfile(info, io.BytesIO(chance.randbytes(count)))
    watch = TarWatch(io.BytesIO(made.getvalue()), frozenset({"wanted", "other", "absent"}))
    passed = b"".join(iter(lambda: watch.read(size), b""))
    assert passed == made.getvalue()
    with tarfile.open(fileobj=io.BytesIO(passed)) as tar:
        for name in ("wanted", "other"):
            file = tar.extractfile(name)
            assert file is not None
            assert watch.kept[name] == file.read()
    assert set(watch.kept) == {"wanted", "other"}


def test_what_is_no_tar_is_said_to_be_none() -> None:
    with pytest.raises(AsbuiltError) as caught:
        TarWatch(io.BytesIO(b"x" * 1024), frozenset()).read()
    assert caught.value.code == "BACKUP-010"
