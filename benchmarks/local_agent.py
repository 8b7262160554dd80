"""Memory and CPU of the local target's agent with 20 idle workloads, beside their limits.

    python benchmarks/local_agent.py [SECONDS]

Reports minimum, median and maximum of five samples of SECONDS (5) each, and how long the agent takes to
answer after its start and to see everything ready again after it was killed.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from asbuilt.plan.workload import Exchange, Listen, Probe, RoleProbe, Workload
from asbuilt.targets.local.client import AgentClient, ensure_agent
from asbuilt.targets.local.leftovers import kill_leftovers

WORKLOADS = 20
WITH_ROLE = 6
SAMPLES = 5
LIMIT_PSS_MB = 25.0
LIMIT_CPU_PERCENT = 1.0
HOST = "127.209.2.1"
ENGINE = """
import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(64)
while True:
    c, _ = s.accept(); c.sendall(b"ready"); c.close()
"""


def build_workload(root: Path, number: int) -> Workload:
    """An engine that answers each connection with one word."""
    exchange = Exchange(HOST, 7000 + number, expect="^ready", shown="ready?")
    name = f"app-{number}"
    return Workload(
        id=name,
        node=name,
        kind="database" if number < WITH_ROLE else "app",
        engine="tiny",
        argv=(sys.executable, "-S", "-c", ENGINE, HOST, str(7000 + number)),
        cwd=str(root / "nodes" / name),
        ready=Probe(exchange),
        role=RoleProbe(exchange) if number < WITH_ROLE else None,
        listens=(Listen(HOST, 7000 + number, "main"),),
    )


def read_cpu(pid: int) -> float:
    """CPU seconds used so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def read_pss(pid: int) -> float:
    """Proportional memory in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, median, maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def wait_all(client: AgentClient) -> None:
    """Until every workload is ready."""
    for number in range(WORKLOADS):
        client.wait_ready(f"app-{number}", 60)


def measure(root: Path, seconds: float) -> dict[str, object]:
    """Start, measure, kill the agent, measure how fast it is back."""
    begun = time.monotonic()
    client = ensure_agent(root)
    answers = time.monotonic() - begun
    begun = time.monotonic()
    for number in range(WORKLOADS):
        client.start(build_workload(root, number), 1)
    wait_all(client)
    ready = time.monotonic() - begun
    pid = client.snapshot().agent or 0
    time.sleep(3)
    cpu, pss = [], []
    for _ in range(SAMPLES):
        before, begun = read_cpu(pid), time.monotonic()
        time.sleep(seconds)
        cpu.append(100 * (read_cpu(pid) - before) / (time.monotonic() - begun))
        pss.append(read_pss(pid))
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    wait_all(ensure_agent(root))
    return {
        "workloads": WORKLOADS,
        "agent_answers_s": answers,
        "all_ready_s": ready,
        "adopted_and_ready_again_s": time.monotonic() - begun,
        "pss_mb": {**spread(pss), "limit": LIMIT_PSS_MB},
        "cpu_percent_of_a_core": {**spread(cpu), "limit": LIMIT_CPU_PERCENT},
    }


def main() -> int:
    """Print JSON; status 1 when a median is above its limit."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    with tempfile.TemporaryDirectory(prefix="asb-") as folder:
        root = Path(folder).resolve()
        try:
            result = measure(root, seconds)
        finally:
            client = AgentClient(root, revive=False)
            client.shutdown(10**6, leave_running=True)
            kill_leftovers(root)
    print(json.dumps(result, indent=1))
    within = [
        result[name]["median"] <= result[name]["limit"]  # type: ignore[index] # built above
        for name in ("pss_mb", "cpu_percent_of_a_core")
    ]
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
