"""A whole environment, driven as a user drives it: through the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

TINY_APP = """\
import http.server, os, socketserver, time
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(float(os.environ.get("PAUSE", "0")))
        body = f"{os.environ['ASBUILT_NODE']} {os.environ['ASBUILT_RELEASE']} {self.path}\\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128
Server((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
"""


@dataclass(frozen=True)
class Live:
    """One environment of one project."""

    project: Path
    name: str

    def run(
        self, *words: str, check: bool = True, timeout: float = 240, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`asbuilt WORDS` in the project's folder; fails the test with what it said unless it succeeds."""
        done = subprocess.run(
            [sys.executable, "-m", "asbuilt", *words],
            cwd=self.project,
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"asbuilt {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str, check: bool = True) -> dict[str, Any]:
        """What a command says with --json."""
        found: dict[str, Any] = json.loads(self.run(*words, "--json", check=check).stdout)
        return found

    def up(self, *words: str) -> dict[str, Any]:
        return self.json("up", self.name, *words)

    def down(self) -> None:
        self.run("down", self.name)

    def status(self) -> dict[str, Any]:
        return self.json("status", self.name, check=False)

    def nodes(self) -> dict[str, dict[str, Any]]:
        return {node["id"]: node for node in self.status()["nodes"]}

    def primary(self, kind: str) -> str:
        """The node of `kind` that is the primary now."""
        return str(
            until(
                lambda: next(
                    (n["id"] for n in self.nodes().values() if (n["kind"], n["role"]) == (kind, "primary")),
                    "",
                ),
                what=f"a primary {kind}",
                within=60,
            )
        )

    def healthy(self, within: float = 90) -> None:
        until(
            lambda: self.status()["healthy"], what="the environment to be healthy", within=within, every=0.3
        )

    @property
    def root(self) -> Path:
        """The environment's folder of state."""
        name = next(
            line.partition(":")[2].strip()
            for line in (self.project / "asbuilt.yaml").read_text().splitlines()
            if line.startswith("name:")
        )
        return Path(os.environ["ASBUILT_HOME"]) / name / self.name

    def get(self, path: str, *, timeout: float = 10) -> tuple[int, str]:
        """GET through the front door, trusting the environment's own authority."""
        return self.ask("GET", path, timeout=timeout)

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, timeout: float = 10
    ) -> tuple[int, str]:
        """One request through the front door."""
        points = json.loads((self.root / "environment.json").read_text())["entrypoints"]
        authority = self.root / "certificates" / "ca.crt"
        context = ssl.create_default_context(cafile=str(authority)) if authority.exists() else None
        request = urllib.request.Request(
            (points.get("https") or points["http"]) + path,
            data=body,
            method=method,
            headers={"Content-Type": "application/json"} if body else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def tree(self, node: str) -> list[int]:
        """Every process that works below the node's folder, or carries a workload mark of it."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                cwd = (entry / "cwd").readlink()
                marked = (
                    f"/{node}\0".encode()
                    in (entry / "environ").read_bytes().partition(b"ASBUILT_WORKLOAD=")[2]
                )
            except OSError:
                continue
            if cwd.is_relative_to(self.root / "nodes" / node) or (
                marked and str(self.root) in (entry / "environ").read_bytes().decode(errors="replace")
            ):
                found.append(int(entry.name))
        return found

    def signal_node(self, node: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to every process of a node."""
        pids = self.tree(node)
        assert pids, f"no process of {node}"
        for pid in pids:
            with suppress(ProcessLookupError):  # its parent's end took it along
                os.kill(pid, number)


def copy_example(name: str, folder: Path) -> Path:
    """An example in a folder of its own."""
    project = folder / name
    shutil.copytree(
        EXAMPLES / name, project, ignore=shutil.ignore_patterns("__pycache__", ".venv", "node_modules")
    )
    return project


def make_tiny(folder: Path, spec: str = "") -> Path:
    """A project with an app that needs nothing but Python."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.py").write_text(TINY_APP)
    (folder / "asbuilt.yaml").write_text(
        spec
        or "name: tiny\napp:\n  command: python3 app.py\nenvironments:\n"
        "  production: {}\n  staging: {}\n  development: {}\n"
    )
    return folder


@contextmanager
def running(project: Path, name: str) -> Iterator[Live]:
    """The environment up inside the block, and down with its data deleted after it."""
    live = Live(project, name)
    try:
        live.up()
        yield live
    finally:
        live.run("down", name, "--delete-data", "--confirm", name, check=False)
