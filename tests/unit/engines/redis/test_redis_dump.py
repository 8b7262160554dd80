from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asbuilt.engines.redis.dump import choose_source, lay_out

if TYPE_CHECKING:
    from pathlib import Path

PRIMARY = {"role": "master"}


def replica(offset: int, link: str = "up") -> dict[str, str]:
    return {"role": "slave", "master_link_status": link, "slave_repl_offset": str(offset)}


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ({}, None),
        ({"cache-1": PRIMARY}, "cache-1"),
        ({"cache-1": PRIMARY, "cache-2": replica(5), "cache-3": replica(7)}, "cache-3"),
        ({"cache-1": PRIMARY, "cache-2": replica(9, "down")}, "cache-1"),
        ({"cache-2": replica(9, "down")}, None),
    ],
)
def test_a_replica_in_step_makes_the_dump(said: dict[str, dict[str, str]], source: str | None) -> None:
    assert choose_source(said) == source


def test_a_dump_becomes_the_base_of_an_append_only_file(tmp_path: Path) -> None:
    dump = tmp_path / "dump.rdb"
    dump.write_bytes(b"REDIS0011")
    lay_out(dump, tmp_path / "data")
    folder = tmp_path / "data" / "appendonlydir"
    manifest = (folder / "appendonly.aof.manifest").read_text()
    assert manifest == "file appendonly.aof.1.base.rdb seq 1 type b\n"
    assert (folder / "appendonly.aof.1.base.rdb").read_bytes() == b"REDIS0011"
    assert not dump.exists()
