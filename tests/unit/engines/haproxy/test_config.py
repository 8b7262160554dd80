from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from asbuilt.engines.haproxy.config import clamp_connections, render_config
from asbuilt.engines.haproxy.engine import HaproxyEngine, render_notes
from asbuilt.engines.haproxy.words import milliseconds, quote
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.plan.fleet import Fleet
from asbuilt.plan.site import Entry, Site, Tools
from asbuilt.plan.workload import to_json
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret
from asbuilt.values.units import Duration
from support.places import site_of
from support.specs import spec_of

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture

GOLDEN = Path(__file__).parents[3] / "golden" / "haproxy"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "production": ("production", {}),
    "staging": ("staging", {}),
    "domains": (
        "production",
        {"load_balancer": {"domains": ["shop.example", "*.shop.example"], "connections": 500}},
    ),
    "hostile": (
        "production",
        {"app": {"health": "/he'$(x)&;a=%25'"}},
    ),
    "canary": ("production", {}),
}
FLEETS = {"canary": Fleet({1: "r1", 2: "r1", 3: "r1", 4: "r2"}, "r1", "r2", 1000, sticky=True)}


def architecture_of(case: str) -> Architecture:
    kind, over = CASES[case]
    fleet = FLEETS.get(case)
    return build(spec_of(**{kind: over}), kind, fleet.servers if fleet else None)


def place_of(case: str, root: Path, tools: dict[str, Tools]) -> Site:
    return replace(site_of(architecture_of(case), root, tools), fleet=FLEETS.get(case))


@pytest.mark.parametrize("case", CASES)
def test_the_configuration_is_as_recorded(case: str, update_golden: bool) -> None:
    architecture = architecture_of(case)
    config = render_config(architecture, place_of(case, Path("/env"), {}))
    golden = GOLDEN / f"{case}.cfg"
    if update_golden:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(config)
    assert config == golden.read_text()


@pytest.mark.parametrize("case", CASES)
def test_haproxy_accepts_it_without_a_warning(case: str, tmp_path: Path) -> None:
    architecture = architecture_of(case)
    runner = Runner(find_identity())
    tools = {"haproxy": HaproxyEngine().find(architecture, runner)}
    realization = HaproxyEngine().realize(architecture, place_of(case, tmp_path, tools), runner)
    workload = realization.workloads[0]
    for directory in workload.directories:
        Path(directory).mkdir(parents=True, exist_ok=True)
    realization.setups[0].run()
    Path(workload.files[0].path).write_text(workload.files[0].content)
    argv = [workload.argv[0], "-c", "-dW", "-f", workload.files[0].path]
    done = subprocess.run(argv, cwd=workload.cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_secrets_are_in_the_private_file_only(tmp_path: Path) -> None:
    architecture = architecture_of("production")
    runner = Runner(find_identity())
    tools = {"haproxy": HaproxyEngine().find(architecture, runner)}
    site = site_of(architecture, tmp_path, tools, secret=lambda _: Secret("p'w$x #\"y"))
    workload = HaproxyEngine().realize(architecture, site, runner).workloads[0]
    assert workload.files[0].mode == 0o600
    rest = {name: value for name, value in to_json(workload).items() if name != "files"}
    assert "p'w$x" not in str(rest)
    assert "stats auth 'asbuilt:p'\\''w$x #\"y'" in workload.files[0].content


def test_a_drained_server_has_no_weight_and_a_disabled_one_is_out() -> None:
    architecture = architecture_of("production")
    config = render_config(
        architecture, site_of(architecture, Path("/env"), {}), drained={"app-2"}, disabled={"app-3"}
    )
    assert config.count("server app-2 127.215.2.2:10002 weight 0\n") == 2
    assert config.count("server app-3 127.215.2.3:10003 disabled\n") == 2
    assert config.count("server app-1 127.215.2.1:10001\n") == 2


def test_an_entry_on_every_address_is_bound_once() -> None:
    architecture = architecture_of("production")
    site = site_of(architecture, Path("/env"), {}, entry=Entry("0.0.0.0", 443, 80))
    config = render_config(architecture, site)
    assert config.count(":443 ssl") == 1
    assert "bind 0.0.0.0:443 ssl" in config
    assert "location https://%[req.hdr(host),host_only]%[pathq]" in config


def test_routes_are_there_only_for_what_is_replicated() -> None:
    architecture = architecture_of("staging")
    assert "route-" not in render_config(architecture, site_of(architecture, Path("/env"), {}))


def test_connections_shrink_to_the_files_of_a_small_machine() -> None:
    assert clamp_connections(10_000, None) == 10_000
    assert clamp_connections(10_000, 20_000) == 10_000
    assert clamp_connections(10_000, 4096) == 2464
    assert clamp_connections(10_000, 256) == 100
    notes = render_notes(architecture_of("production"), 4096)
    assert "2464 connections, not 10000" in notes[0]
    assert render_notes(architecture_of("production"), None) == ()


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x00b", "\x7f"])
def test_a_control_character_never_reaches_the_file(text: str) -> None:
    with pytest.raises(AsbuiltError) as caught:
        quote(text)
    assert caught.value.code == "LB-001"


def test_quoted_words_hold_what_they_were_given() -> None:
    assert quote("a b#c\"d\\e$f'g") == "'a b#c\"d\\e$f'\\''g'"


def test_times_stay_in_what_haproxy_takes() -> None:
    assert milliseconds(Duration(30)) == "30000ms"
    assert milliseconds(0.0001) == "1ms"
    assert milliseconds(Duration(100 * 365 * 86400.0)) == "2147483647ms"
