from __future__ import annotations

import os
from pathlib import Path

import pytest

from asbuilt.plan.workload import Limits
from asbuilt.targets.local import limits as limiting
from asbuilt.targets.local.files import read_json, write_atomically
from asbuilt.targets.local.limits import (
    Machine,
    apply,
    clamp,
    parse_own_groups,
    remove,
    render_v1,
    render_v2,
)
from asbuilt.targets.local.logs import read_tail, rotate
from asbuilt.targets.local.process import (
    Ident,
    Process,
    Sighting,
    is_alive,
    parse_stat,
    read_process,
    select_tree,
)
from asbuilt.targets.local.spawn import prepare_record, read_record

MACHINE = Machine(2, 2**30)


def test_stat_with_a_name_that_tries_to_fool() -> None:
    data = b"77 (a) S 1 (b) T 12 77 77 34816 " + b"0 " * 14 + b"987 0 0\n"
    assert parse_stat(data) == Process(77, 12, "T", 987, 34816, "a) S 1 (b")


def seen(
    pid: int, ppid: int, marker: str | None = None, cwd: str = "/", *, tty: int = 0
) -> tuple[int, Sighting]:
    return pid, Sighting(Process(pid, ppid, "S", pid * 10, tty, "x"), marker, cwd)


NODE = "/env/nodes/db-1"


def tree(*sightings: tuple[int, Sighting], main: int | None = 10, **more: object) -> set[int]:
    found = select_tree(
        dict(sightings),
        marker="h/db-1",
        main=Ident(main, main * 10) if main else None,
        node_dir=NODE,
        strays=bool(more.get("strays", True)),
        others=more.get("others", ()),  # type: ignore[arg-type]
        keep=(1, 5),
    )
    return {ident.pid for ident in found}


def test_tree_of_descendants_markers_and_strays() -> None:
    assert tree(
        seen(1, 0),
        seen(5, 1, cwd=NODE),  # the agent
        seen(10, 5, "h/db-1"),
        seen(11, 10),  # a child without anything
        seen(12, 1, "h/db-1"),  # an orphan with the marker
        seen(13, 1, cwd=NODE + "/data"),  # an orphan with nothing but its folder
        seen(14, 13),
        seen(20, 5, "h/db-2", NODE),  # another workload
        seen(21, 20),
        seen(22, 1, None, NODE + "x"),
        seen(23, 1, "other/db-1", NODE),  # another environment
    ) == {10, 11, 12, 13, 14}


def test_a_person_s_shell_is_spared() -> None:
    assert tree(seen(10, 5), seen(30, 1, cwd=NODE, tty=34816)) == {10}


def test_a_second_workload_of_the_node_does_not_take_the_first_one_s_children() -> None:
    around = (
        seen(10, 5, "h/db-1"),
        seen(20, 5, "h/db-1.x", NODE),
        seen(21, 20, None, NODE),
        seen(13, 1, None, NODE),
    )
    assert tree(*around) == {10, 13}
    assert tree(*around, strays=False) == {10}
    assert tree(seen(10, 5), seen(20, 5, None, NODE), seen(21, 20, None, NODE), others=(20,)) == {10}


def test_a_pid_that_is_somebody_else_s_now() -> None:
    pid, sighting = seen(10, 1)
    assert (
        select_tree({pid: sighting}, marker="h/db-1", main=Ident(10, 99), node_dir=NODE, strays=True)
        == frozenset()
    )


def test_identity_needs_the_start_time() -> None:
    own = read_process(os.getpid())
    assert own is not None
    assert is_alive(own.ident)
    assert not is_alive(Ident(own.pid, own.start + 1))


@pytest.mark.parametrize("text", ["", "{", "   ", '{"pid": 1}', '{"pid": "x", "start": 1, "boot": "no"}'])
def test_damaged_pid_record_is_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "r").write_text(text)
    assert read_record(tmp_path / "r") is None


def test_room_for_the_record_is_no_record(tmp_path: Path) -> None:
    prepare_record(tmp_path / "r")
    assert read_record(tmp_path / "r") is None


def test_limits_are_clamped_to_the_machine() -> None:
    assert clamp(Limits(4, 16 * 2**30, 10, 20), MACHINE) == Limits(2.0, 2**30, 10, 20)
    assert clamp(Limits(), MACHINE) == Limits()


def test_limits_as_files() -> None:
    limits = Limits(0.5, 1000, 9)
    assert render_v1(limits)["cpu"] == {
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "cpu.shares": "512",
    }
    assert render_v2(limits) == {"memory.max": "1000", "cpu.max": "50000 100000", "pids.max": "9"}
    assert render_v1(Limits()) == {}
    assert render_v2(Limits()) == {}


def test_groups_above_weigh_what_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asbuilt.targets.local.limits._own_groups", lambda: {"cpu": ""})
    (tmp_path / "cpu").mkdir()
    groups = [
        apply(Limits(cpu), name, MACHINE, root=tmp_path).groups[0]
        for cpu, name in ((2.0, "one/app-1"), (1.0, "one/app-2"), (0.5, "two/app-1"))
    ]
    shares = {
        str(file.parent.relative_to(tmp_path)): int(file.read_text()) for file in tmp_path.rglob("cpu.shares")
    }
    assert shares["cpu/asbuilt/one/app-1"] == 2048
    assert shares["cpu/asbuilt/one"] == 2048 + 1024
    assert shares["cpu/asbuilt"] == 2048 + 1024 + 512
    for file in Path(groups[0]).iterdir():  # the kernel's own files go with their folder
        file.unlink()
    remove((groups[0],))
    assert (tmp_path / "cpu" / "asbuilt" / "one" / "cpu.shares").read_text() == "1024"
    assert (tmp_path / "cpu" / "asbuilt" / "cpu.shares").read_text() == "1536"


def test_own_groups() -> None:
    text = "4:memory:/a/b\n3:cpu,cpuacct:/c\n0::/user.slice\n"
    assert parse_own_groups(text) == {"memory": "a/b", "cpu": "c", "cpuacct": "c", "": "user.slice"}


def test_v2_where_the_subtree_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "user" / "session"
    own.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").touch()
    monkeypatch.setattr(limiting, "_own_groups", lambda: {"": "user/session"})
    applied = apply(Limits(cpu=1.5, memory=4096), "hash/db-1", MACHINE, root=tmp_path)
    group = tmp_path / "user" / "asbuilt" / "hash" / "db-1"
    assert (applied.by, applied.groups) == ("cgroup", (str(group),))
    assert (group / "cpu.max").read_text() == "150000 100000"
    for step in (tmp_path / "user", tmp_path / "user" / "asbuilt", group.parent):
        assert (step / "cgroup.subtree_control").read_text() == "+cpu +memory"


def test_without_cgroups_only_open_files_are_limited(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = tmp_path / "file"
    applied = apply(Limits(cpu=1, memory=1, open_files=100), "x/y", MACHINE, root=nowhere)
    assert (applied.by, applied.open_files, applied.limits) == ("rlimit", 100, Limits(open_files=100))
    assert apply(Limits(cpu=1), "x/y", MACHINE, root=nowhere).by == "none"
    assert apply(Limits(), "x/y", MACHINE, root=nowhere).by == "none"


def test_rotation_keeps_the_descriptor_valid(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:
        for number in range(5):
            writer.write(f"{number}\n".encode() * 100)
            assert rotate(log, max_bytes=50, kept=3)
        writer.write(b"end\n")
    assert log.read_text() == "end\n"
    assert [log.with_name(f"a.log.{n}").read_text()[0] for n in (1, 2, 3)] == ["4", "3", "2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2", "a.log.3"]
    assert not rotate(log, max_bytes=50)
    assert not rotate(tmp_path / "none")


def test_tail(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert read_tail(log) == ()
    log.write_bytes(b"\n".join(b"line %d \xff" % n for n in range(30)) + b"\n\n")
    assert len(read_tail(log)) == 10
    assert read_tail(log, 1)[0].startswith("line 29")


def test_atomic_write_leaves_the_old_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x"
    write_atomically(file, '{"a": 1}')
    assert file.stat().st_mode & 0o777 == 0o600

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            write_atomically(file, "{}")
    assert read_json(file) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
