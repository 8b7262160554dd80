from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asbuilt.engines.app.migrate import build_migration
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.graph.services import SERVICES
from asbuilt.plan.site import Entry, Release, Site
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret
from support.specs import spec_of

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.plan.workload import Setup


def migration(tmp_path: Path, script: str, artifact: str = "abc") -> Setup:
    spec = {"app": {"command": "/bin/true", "migrate": ["/bin/sh", "-c", script]}}
    architecture = build(spec_of(production=spec), "production")
    release = Release("r1", artifact, str(tmp_path))
    site = Site(
        root=tmp_path / "root",
        project=tmp_path,
        addresses={node.id: "127.220.2.1" for node in architecture.nodes},
        ports={name: service.port for name, service in SERVICES.items()},
        entry=Entry("", None, None),
        tools={},
        secret=lambda name: Secret(f"hush-{name}"),
        release=release,
        app_secrets={"TOKEN": Secret("hush-token")},
        cpus=1,
        memory=1,
    )
    return build_migration(architecture, site, release, Runner(find_identity()), ("db-1",))


def test_it_runs_once_for_each_release(tmp_path: Path) -> None:
    script = 'echo "$$ASBUILT_RELEASE $$PWD $$(test -n "$$DATABASE_URL" && echo url)" >> "$$HOME/ran"'
    setup = migration(tmp_path, script)
    assert not setup.satisfied()
    setup.run()
    assert setup.satisfied()
    assert (tmp_path / "root" / "migrate" / "home" / "ran").read_text() == f"r1 {tmp_path} url\n"
    assert migration(tmp_path, script).satisfied()
    other = migration(tmp_path, script, "another")
    assert other.key != setup.key
    assert not other.satisfied()


def test_a_failure_shows_its_last_words_without_secrets_and_is_not_marked(tmp_path: Path) -> None:
    setup = migration(tmp_path, 'echo "connect with $$TOKEN"; echo boom >&2; exit 3')
    with pytest.raises(AsbuiltError) as refused:
        setup.run()
    text = refused.value.render()
    assert refused.value.code == "APP-004"
    assert "boom" in text
    assert "hush" not in text
    assert "hush" not in (tmp_path / "root" / "logs" / "app.migrate.log").read_text()
    assert not setup.satisfied()
