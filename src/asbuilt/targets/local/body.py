"""The processes of one workload: made ready, started, found, ended.

Decides nothing. Invariant: `kill_all` returns only when a look at the whole machine finds nothing of the
workload any more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.targets.local import limits as limiting
from asbuilt.targets.local.files import read_json, write_atomically
from asbuilt.targets.local.host import Host, read_to_end, tell_status
from asbuilt.targets.local.listeners import (
    WILDCARDS,
    describe,
    describe_holder,
    find_holders,
    is_free,
    read_listeners,
)
from asbuilt.targets.local.logs import read_tail
from asbuilt.targets.local.names import MARKER, file_name, render_marker, root_hash
from asbuilt.targets.local.process import (
    Ident,
    Sighting,
    is_alive,
    is_below,
    is_stopped,
    look_around,
    read_cwd,
    read_marker,
    read_process,
    select_tree,
    send_signal,
)
from asbuilt.targets.local.spawn import Launch, Record, prepare_record, read_record, spawn
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asbuilt.plan.workload import ConfigFile, Workload

_STUBBORN_AFTER = 5.0
_AFTER_FAILURE_WITHIN = 20.0
_FREEZER = "/sys/fs/cgroup/freezer"


class Body:
    """The processes of one workload. `ended` is called when the main process is gone."""

    def __init__(self, host: Host, workload: Workload, ended: Callable[[], None]) -> None:
        self.host = host
        self.workload = workload
        self.marker = render_marker(host.paths.root, workload.id)
        self.record_path = host.paths.record(workload.id)
        self.log = host.paths.workload_log(workload.id)
        self.main: Ident | None = None
        self.since = ""
        self.status: int | None = None
        self.gone = asyncio.Event()
        self.gone.set()
        self.applied = limiting.Applied("none")
        self._ended = ended
        self._engine: Ident | None = None
        self._groups_file = host.paths.group(workload.id)

    # -- getting ready ------------------------------------------------------------------------------------

    def write_files(self, *, again: bool = False) -> None:
        """Write its folders and files. `again`: it runs, so files it rewrites itself are left alone."""
        node_dir = self.host.paths.node(self.workload.node)
        for folder in (
            str(node_dir),
            str(node_dir / "home"),
            str(node_dir / "tmp"),
            *self.workload.directories,
        ):
            self._make_folder(folder)
        if is_below(self.workload.cwd, str(node_dir)):
            self._make_folder(str(self.workload.cwd))
        for file in self.workload.files:
            self._write_file(file, again=again)

    def _make_folder(self, folder: str) -> None:
        path = Path(folder)
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._give(path)

    def _give(self, path: Path) -> None:
        identity = self.host.identity
        if self.workload.unprivileged and identity.uid != os.geteuid():
            os.chown(path, identity.uid, identity.gid)

    def _write_file(self, file: ConfigFile, *, again: bool) -> None:
        path = Path(file.path)
        if file.once and (again or path.exists()):
            return
        self._make_folder(str(path.parent))
        with suppress(OSError, ValueError):
            if path.read_text() == file.content and path.stat().st_mode & 0o7777 == file.mode:
                return
        write_atomically(path, file.content, mode=file.mode)
        self._give(path)

    def prepare(self) -> None:
        """Files, log, limits, free ports. Raises AsbuiltError LOCAL-024 (cannot write), LOCAL-032 (port)."""
        try:
            self.write_files()
            self.host.paths.logs.mkdir(mode=0o700, exist_ok=True)
            prepare_record(self.record_path)
        except OSError as error:
            raise AsbuiltError(
                "LOCAL-024",
                f"cannot write the files of {self.workload.id}: {error.strerror}",
                where=str(error.filename or self.host.paths.root),
                hint="free some space, or make the folder writable",
            ) from None
        name = f"{root_hash(self.host.paths.root)}/{file_name(self.workload.id)}"
        self.applied = limiting.apply(self.workload.limits, name, self.host.machine)
        with suppress(OSError):
            write_atomically(self._groups_file, _groups_text(self.applied.groups))
        for listen in self.workload.listens:
            if not is_free(listen.host, listen.port):
                holder = describe_holder(listen.host, listen.port) or "another process"
                raise AsbuiltError(
                    "LOCAL-032",
                    f"{self.workload.id} cannot listen on {listen.host}:{listen.port}"
                    f" ({listen.purpose}): {holder} holds it",
                    where=f"{listen.host}:{listen.port}",
                    hint="end that process, or give the port free in another way; it is tried again",
                )

    # -- starting -----------------------------------------------------------------------------------------

    def _launch(self, argv: tuple[str, ...], record: Path | None) -> Launch:
        node_dir = self.host.paths.node(self.workload.node)
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": f"{node_dir}/home",
            "TMPDIR": str(node_dir / "tmp"),
            **dict(self.workload.env),
            **{name: value.reveal() for name, value in self.workload.secret_env},
            MARKER: self.marker,
        }
        return Launch(
            argv=self.host.identity.wrap(argv) if self.workload.unprivileged else argv,
            env=env,
            cwd=self.workload.cwd or str(node_dir),
            log=self.log,
            record=record,
            digest=self.workload.process_digest,
            groups=self.applied.groups,
            open_files=self.applied.open_files,
        )

    async def run_first(self, abort: asyncio.Event) -> bool:
        """Run `before_start` to its end; False when it was broken off. Raises AsbuiltError LOCAL-034."""
        argv = self.workload.before_start
        if not argv:
            return not abort.is_set()
        return await self._run(
            argv, "before the start of", max(self.workload.ready.start_timeout, 1.0), abort
        )

    async def run_after_failure(self, abort: asyncio.Event) -> bool:
        """Run `after_failure` to its end; False when it was broken off. Raises AsbuiltError LOCAL-034."""
        return await self._run(
            self.workload.after_failure, "after the failure of", _AFTER_FAILURE_WITHIN, abort
        )

    async def _run(self, argv: tuple[str, ...], when: str, within: float, abort: asyncio.Event) -> bool:
        done: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

        def ended(status: int | None) -> None:
            if not done.done():
                done.set_result(status)

        pid, pipe = self._spawn(self._launch(argv, None))
        self.host.reaper.watch_child(pid, ended)
        await self._check_exec(pipe, argv)
        stopper = asyncio.ensure_future(abort.wait())
        try:
            await asyncio.wait((done, stopper), timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopper.cancel()
        if not done.done():
            if abort.is_set():
                return False
            words = f"did not end within {within:g} s"
        elif done.result() == 0:
            return not abort.is_set()
        else:
            words = tell_status(done.result())
        raise AsbuiltError(
            "LOCAL-034",
            f"the command {when} {self.workload.id} {words}",
            where=" ".join(argv),
            evidence=read_tail(self.log),
        )

    def _spawn(self, launch: Launch) -> tuple[int, int]:
        self.host.note_start(self.workload.id)
        try:
            return spawn(launch)
        except OSError as error:
            words = f"cannot start {self.workload.id}: {error.strerror}"
            raise AsbuiltError("LOCAL-034", words) from None

    async def launch(self) -> None:
        """Start the main process. Raises AsbuiltError LOCAL-034 when it cannot be executed."""
        self.status = None
        pid, pipe = self._spawn(self._launch(self.workload.argv, self.record_path))
        process = read_process(pid)
        main = Ident(pid, process.start if process else 0)
        self._take(main)
        self.host.reaper.watch_child(pid, lambda status: self._left(main, status))
        await self._check_exec(pipe, self.workload.argv)
        record = read_record(self.record_path)
        self.since = record.since if record else ""

    def _take(self, main: Ident) -> None:
        self.main = main
        self.gone.clear()

    def _left(self, main: Ident, status: int | None) -> None:
        if self.main == main:
            self.status = status
            self.gone.set()
            self._ended()

    async def _check_exec(self, pipe: int, argv: tuple[str, ...]) -> None:
        why = await read_to_end(pipe)
        if why:
            raise AsbuiltError(
                "LOCAL-034",
                f"cannot start {self.workload.id}: {why.decode(errors='replace')}",
                where=argv[0],
                hint="asbuilt doctor says what is missing",
            )

    def read_record(self) -> Record | None:
        """What the pid record says, whether or not it still runs."""
        return read_record(self.record_path)

    def adopt(self, record: Record) -> bool:
        """Take over a main process that an earlier agent started; False when it is gone."""
        main = record.ident
        if not is_alive(main) or not self.host.reaper.watch_stranger(main, lambda _: self._left(main, None)):
            return False
        self._take(main)
        self.since = record.since
        raw = read_json(self._groups_file)
        groups = tuple(str(group) for group in raw["groups"]) if raw else ()
        limited = limiting.clamp(self.workload.limits, self.host.machine)
        by = "cgroup" if groups else "rlimit" if limited.open_files else "none"
        self.applied = limiting.Applied(by, groups, limited.open_files, limited)
        return True

    # -- looking ------------------------------------------------------------------------------------------

    def tree(self, sightings: Mapping[int, Sighting] | None = None) -> frozenset[Ident]:
        """Every living process of the workload; `sightings`: a look taken already."""
        return select_tree(
            look_around() if sightings is None else sightings,
            marker=self.marker,
            main=self.main,
            node_dir=str(self.host.paths.node(self.workload.node)),
            strays=self.workload.id == self.workload.node,
            others=self.host.mains(self.workload.id),
            grouped=limiting.read_members(self.applied.groups),
            keep=(os.getpid(), os.getppid(), 1),
        )

    def engine(self) -> Ident | None:
        """The engine's own main process: the one `pid_file` names, else the main process."""
        if self.main is None or self.workload.pid_file is None:
            return self.main
        try:
            pid = int(Path(self.workload.pid_file).read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return self.main
        process = read_process(pid)
        if process is None or process.state in "ZX":
            return self.main
        if process.ident != self._engine:
            node_dir = str(self.host.paths.node(self.workload.node))
            if read_marker(pid) != self.marker and not is_below(read_cwd(pid), node_dir):
                return self.main  # a file of long ago, and a pid that is somebody else's now
            self._engine = process.ident
        return self._engine

    def is_frozen(self) -> bool:
        """Whether the main process, or the engine's own, is stopped."""
        if self.main is not None and is_stopped(self.main):
            return True
        if self.workload.pid_file is None:
            return False
        if self._engine is None or not is_alive(self._engine):
            self._engine = None
            self.engine()  # the file is read only when its process may be another one
        return self._engine is not None and is_stopped(self._engine)

    def check_ports(self) -> tuple[bool, str]:
        """Whether its own tree listens on each of its ports; and words on somebody else who is there."""
        wanted = self.workload.listens
        if not wanted:
            return True, ""
        table = read_listeners()
        here = {
            listen: [o for o in table if o.port == listen.port and o.host in {listen.host, *WILDCARDS}]
            for listen in wanted
        }
        inodes = {one.inode for found in here.values() for one in found}
        holders = find_holders(inodes, {ident.pid for ident in (self.main, self.engine()) if ident})
        if not all(holders.values()):  # a look at the whole machine costs much more
            holders = find_holders(inodes, {ident.pid for ident in self.tree()})
        for listen, found in here.items():
            for one in found:
                if not holders[one.inode]:
                    who = describe(one, find_holders({one.inode})[one.inode])
                    return False, f"[LOCAL-033] {listen.host}:{listen.port} is shared with {who}"
        return all(here.values()), ""

    # -- ending -------------------------------------------------------------------------------------------

    def signal_main(self, name: str) -> bool:
        """Send a signal to the main process."""
        return self.main is not None and send_signal(self.main, signal.Signals[name])

    async def kill_all(self) -> int:
        """SIGKILL until nothing is left; how many processes there were. SIGKILL ends stopped ones as well."""
        seen: set[Ident] = set()
        pause, begun, told = 0.002, time.monotonic(), False
        found = self.tree(self.host.look_for(self.workload.id))
        while found:
            seen |= found
            for ident in found:
                send_signal(ident, signal.SIGKILL)
            await asyncio.sleep(pause)
            pause = min(pause * 1.6, 0.2)
            if not told and time.monotonic() - begun > _STUBBORN_AFTER:
                told = True
                pids = ", ".join(str(ident.pid) for ident in sorted(found, key=lambda one: one.pid))
                self.host.say(f"{self.workload.id}: SIGKILL has no effect on {pids}; thawing their groups")
                for ident in found:
                    _thaw(ident.pid)
            found = self.tree()
        self.host.reaper.reap()
        self.main = None
        self._engine = None
        self.gone.set()
        return len(seen)

    def forget(self) -> None:
        """Remove what is on record of a process that is gone, and its cgroups."""
        self.record_path.unlink(missing_ok=True)
        limiting.remove(self.applied.groups)
        self._groups_file.unlink(missing_ok=True)


def _groups_text(groups: tuple[str, ...]) -> str:
    names = ", ".join(f'"{group}"' for group in groups)
    return f'{{"schema": 1, "groups": [{names}]}}\n'


def _thaw(pid: int) -> None:
    """A frozen cgroup keeps even SIGKILL waiting."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "freezer" and path != "/":
                Path(f"{_FREEZER}{path}/freezer.state").write_text("THAWED")
