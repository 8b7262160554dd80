from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from asbuilt.engines.redis.admin import render_connect
from asbuilt.engines.redis.cli import render_reply
from asbuilt.engines.redis.config import (
    quorum,
    quote,
    render_notes,
    render_sentinel,
    render_server,
    render_url,
    size_memory,
)
from asbuilt.engines.redis.engine import RedisEngine, accepts, parse_version
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.plan.site import Tools
from asbuilt.plan.workload import to_json
from asbuilt.values.secret import Secret
from support.places import site_of
from support.specs import spec_of

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture

GOLDEN = Path(__file__).parents[3] / "golden" / "redis"
TOOLS = {"redis": Tools("redis", "valkey 9.1.2", "wheel", "", {"redis-server": "/bin/valkey-server"})}


def architecture_of(kind: str = "production", **cache: Any) -> Architecture:  # noqa: ANN401 - values of a spec
    return build(spec_of(**{kind: {"cache": cache}}), kind)


@pytest.mark.parametrize("kind", ["production", "staging"])
def test_the_configuration_is_as_recorded(kind: str, update_golden: bool) -> None:
    architecture = architecture_of(kind)
    node = architecture.by_id["cache-1"]
    site = site_of(architecture, Path("/env"), {})
    config = render_server(architecture, site, node)
    if kind == "production":
        config += "--- sentinel\n" + render_sentinel(architecture, site, node)
    golden = GOLDEN / f"{kind}.conf"
    if update_golden:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(config)
    assert config == golden.read_text()


def test_hostile_secrets_stay_one_word() -> None:
    assert quote('a"b\\c\nd é') == '"a\\x22b\\x5cc\\x0ad \\xc3\\xa9"'
    architecture = architecture_of()
    site = site_of(architecture, Path("/e n'v"), {}, secret=lambda _: Secret('x"\nuser evil on nopass +@all'))
    for text in (
        render_server(architecture, site, architecture.by_id["cache-1"]),
        render_sentinel(architecture, site, architecture.by_id["cache-1"]),
    ):
        assert not any(line.startswith("user evil") for line in text.splitlines())


def test_secrets_are_in_private_files_only(tmp_path: Path) -> None:
    architecture = architecture_of()
    realization = RedisEngine().realize(
        architecture, site_of(architecture, tmp_path, TOOLS), Runner(find_identity())
    )
    assert [w.id for w in realization.workloads] == [
        "cache-1", "cache-2", "cache-3", "cache-1.sentinel", "cache-2.sentinel", "cache-3.sentinel",
    ]  # fmt: skip
    for workload in realization.workloads:
        raw = to_json(workload)
        assert "secret-of" not in str([raw["argv"], raw["before_start"], raw["env"]])
        assert all(file.mode == 0o600 for file in workload.files)
        assert "secret-of" not in (workload.ready.exchange.shown if workload.ready.exchange else "")


def test_one_node_alone_has_no_sentinel_and_is_reached_directly() -> None:
    architecture = architecture_of("development")
    site = site_of(architecture, Path("/env"), TOOLS)
    realization = RedisEngine().realize(architecture, site, Runner(find_identity()))
    assert [w.id for w in realization.workloads] == ["cache-1"]
    assert realization.workloads[0].before_start == ()
    assert render_url(architecture, site) == "redis://:secret-of-cache.password@127.215.4.1:6379/0"


def test_replicated_nodes_are_reached_through_the_route() -> None:
    architecture = architecture_of()
    site = site_of(architecture, Path("/env"), TOOLS)
    assert render_url(architecture, site) == "redis://:secret-of-cache.password@127.215.1.1:6379/0"
    words, env = render_connect(architecture, site)
    assert words[-4:] == ("-h", "127.215.1.1", "-p", "6379")
    assert env == {"REDISCLI_AUTH": "secret-of-cache.password"}


def test_memory_is_clamped_to_a_fair_share_and_says_so() -> None:
    architecture = architecture_of()
    site = site_of(architecture, Path("/env"), {})
    assert size_memory(architecture, site) == 2 * 2**30
    assert render_notes(architecture, site) == (
        "cache: 2GB for each node, not 26GB: this machine's fair share",
    )
    small = architecture_of(memory="100MB")
    assert size_memory(small, site) == 100 * 2**20
    assert render_notes(small, site) == ()


def test_the_quorum_is_a_majority() -> None:
    assert [quorum(architecture_of(replicas=n)) for n in (1, 2, 3, 4)] == [2, 2, 3, 3]


@pytest.mark.parametrize(
    ("said", "version", "good"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc", "redis 7.0.15", True),
        ("Redis server v=6.0.16 sha=0", "redis 6.0.16", False),
        ("Valkey server v=9.1.2 sha=00000000:1", "valkey 9.1.2", True),
        ("nonsense", None, False),
    ],
)
def test_versions(said: str, version: str | None, good: bool) -> None:
    assert parse_version(said) == version
    assert version is None or accepts(version) is good


def test_what_runs_before_a_start_is_light() -> None:
    code = (
        "import json, sys; import asbuilt.engines.redis.before_start; "
        "heavy = ('pydantic', 'cryptography', 'yaml'); "
        "print(json.dumps([m for m in sys.modules if m.split('.')[0] in heavy]))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == []


def test_replies_are_shown_like_redis_cli_does() -> None:
    assert render_reply(None) == "(nil)"
    assert render_reply(3) == "(integer) 3"
    assert render_reply([]) == "(empty array)"
    assert render_reply(["a", 1, None]) == "1) a\n2) (integer) 1\n3) (nil)"
