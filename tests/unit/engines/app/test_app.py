from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from asbuilt.engines.app.config import BASE_PATH
from asbuilt.engines.app.engine import AppEngine, check_program
from asbuilt.engines.app.migrate import render_failure
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.graph.model import Kind
from asbuilt.graph.services import SERVICES
from asbuilt.plan.site import Entry, Release, Site
from asbuilt.plan.workload import Workload, from_json, to_json
from asbuilt.values.errors import AsbuiltError, UsageError
from asbuilt.values.secret import Secret
from support.specs import spec_of

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.engines.contract import Realization
    from asbuilt.graph.model import Architecture

PASSWORD = "p@ss/w:o#rd %"


def realize(
    tmp_path: Path,
    environment: str = "production",
    own: dict[str, Any] | None = None,
    **app: Any,  # noqa: ANN401
) -> tuple[Workload, ...]:
    return realization(tmp_path, environment, own, **app).workloads


def realization(
    tmp_path: Path,
    environment: str = "production",
    own: dict[str, Any] | None = None,
    **app: Any,  # noqa: ANN401
) -> Realization:
    architecture, site = world(tmp_path, environment, own, **app)
    return AppEngine().realize(architecture, site, Runner(find_identity()))


def world(
    tmp_path: Path,
    environment: str = "production",
    own: dict[str, Any] | None = None,
    **app: Any,  # noqa: ANN401
) -> tuple[Architecture, Site]:
    spec = {"app": {"command": "/bin/true --port $PORT --host ${HOST}", **app}, **(own or {})}
    architecture = build(spec_of(**{environment: spec}), environment)
    release = Release("r7", "abc", str(tmp_path), ("/rel/bin",), (("VIRTUAL_ENV", "/rel"),))
    site = Site(
        root=tmp_path,
        project=tmp_path,
        addresses={node.id: f"127.220.2.{index}" for index, node in enumerate(architecture.nodes, 1)},
        ports={
            **{name: service.port for name, service in SERVICES.items()},
            **{node.id: 10000 + node.number for node in architecture.of(Kind.APP)},
        },
        entry=Entry("127.0.0.1", None, None),
        tools={},
        secret=lambda name: Secret(f"{name}:{PASSWORD}"),
        release=release,
        app_secrets={"TOKEN": Secret("hush")},
        cpus=2,
        memory=2**30,
    )
    return architecture, site


def test_one_workload_for_each_instance_with_its_own_port(tmp_path: Path) -> None:
    workloads = realize(tmp_path)
    assert [one.id for one in workloads] == ["app-1", "app-2", "app-3"]
    assert len({one.listens for one in workloads}) == 3
    first = workloads[0]
    env = dict(first.env)
    assert first.argv == ("/bin/true", "--port", env["PORT"], "--host", env["HOST"])
    assert (env["ASBUILT_NODE"], env["ASBUILT_RELEASE"], env["ASBUILT_ENVIRONMENT"]) == (
        "app-1",
        "r7",
        "production",
    )
    assert env["PATH"] == f"/rel/bin:{BASE_PATH}"
    assert env["HOME"].startswith(str(tmp_path / "nodes" / "app-1"))
    assert (first.limits.cpu, first.limits.memory) == (2.0, 2**30), "clamped to the machine"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in env
    assert from_json(to_json(first)) == first


def test_addresses_follow_the_routes_or_the_only_node(tmp_path: Path) -> None:
    def host_and_port(workload: Workload, name: str) -> str:
        return dict(workload.secret_env)[name].reveal().rpartition("@")[2]

    for environment, own, routed in (
        ("production", {}, True),
        ("production", {"database": {"replicas": 0}, "cache": {"replicas": 0}}, False),
        ("staging", {}, False),
        ("development", {"app": {"reload": False, "command": "/bin/true"}}, False),
    ):
        workload = realize(tmp_path, environment, own)[0]
        ports = {
            host_and_port(workload, n).rpartition(":")[2] for n in ("DATABASE_URL", "DATABASE_REPLICA_URL")
        }
        assert ports == ({"5432/app", "5433/app"} if routed else {"5432/app"})
        assert ("lb-1" in workload.needs) is routed
        assert {"db-1", "cache-1", "objects.bucket", "files.directory"} <= set(workload.needs)


def test_secrets_are_quoted_and_kept_out_of_the_plain_part(tmp_path: Path) -> None:
    workload = realize(tmp_path, env={"TOKEN": "shadowed", "PORT": "1", "DATABASE_URL": "mine"})[0]
    secret = {name: value.reveal() for name, value in workload.secret_env}
    assert "p%40ss%2Fw%3Ao%23rd%20%25@" in secret["REDIS_URL"]
    assert secret["TOKEN"] == "hush"
    plain = dict(workload.env)
    assert "TOKEN" not in plain
    assert plain["PORT"] == "10001", "what makes the instance itself cannot be replaced"
    assert plain["DATABASE_URL"] == "mine", "an owner may bring a database"
    assert not any(PASSWORD in f"{name}{value}" for name, value in workload.env)
    assert not any("hush" in word or "ss/w" in word for word in workload.argv)


@pytest.mark.parametrize(
    "command", ["/bin/true $DATABASE_URL", "/bin/true ${TOKEN:-x}", ["/bin/sh", "-c", "exec a $REDIS_URL"]]
)
def test_a_secret_in_the_command_line_is_refused(tmp_path: Path, command: str | list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        realize(tmp_path, command=command)
    assert refused.value.code == "APP-001"
    assert "hush" not in refused.value.render()


def test_a_shell_may_read_the_variable_itself(tmp_path: Path) -> None:
    words = realize(tmp_path, command=["/bin/sh", "-c", 'exec a "$$TOKEN"'])[0].argv
    assert words == ("/bin/sh", "-c", 'exec a "$TOKEN"')


@pytest.mark.parametrize(
    "value", ["$(touch /tmp/x)", "a\nb", "; rm -rf /", "'\"`", "${PORT}", "é\t ", "-" * 5000]
)
def test_hostile_values_stay_one_word(tmp_path: Path, value: str) -> None:
    workload = realize(tmp_path, env={"V": value}, command=["/bin/true", "x$V", "$V"])[0]
    assert workload.argv == ("/bin/true", f"x{value}", value)
    assert dict(workload.env)["V"] == value
    reloaded = realize(tmp_path, env={"V": value}, command=["/bin/true", "$V"], reload=True)[0]
    target = reloaded.argv[-2]
    assert shlex.split(target) == ["/bin/true", value]


def test_unknown_variables_and_programs_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="APP-002"):
        realize(tmp_path, command="/bin/true $NO_SUCH")
    architecture, site = world(tmp_path, command="no-such-program-anywhere")
    assert site.release is not None
    with pytest.raises(UsageError, match="APP-003"):
        check_program(architecture, site, site.release)


def test_reload_runs_the_working_tree_under_a_watcher(tmp_path: Path) -> None:
    workload = realize(tmp_path, reload=True)[0]
    assert workload.argv[1:3] == ("-m", "watchfiles")
    assert workload.cwd == str(tmp_path)
    assert workload.ready.hang_after == 0


def test_clamps_are_told(tmp_path: Path) -> None:
    assert len(realization(tmp_path).notes) == 2
    assert realization(tmp_path, cpu=1, memory="512MB").notes == ()


def test_nothing_runs_without_a_release(tmp_path: Path) -> None:
    architecture = build(spec_of(production={}), "production")
    site = Site(tmp_path, tmp_path, {}, {}, Entry("", None, None), {}, Secret, None, {}, 1, 1)
    assert AppEngine().realize(architecture, site, Runner(find_identity())).workloads == ()


def test_a_missing_extension_names_the_package() -> None:
    said = 'psycopg.errors.FeatureNotSupported: extension "pg_trgm" is not available\nDETAIL: ...'
    error = render_failure(1, said, "/log")
    assert isinstance(error, AsbuiltError)
    assert "pg_trgm" in error.hint
    assert "postgresql-16" in error.hint
    assert "pg_trgm" not in render_failure(1, "other", "/log").hint
    assert "$DATABASE_URL" in render_failure(1, "OperationalError: unable to open database file", "/log").hint
