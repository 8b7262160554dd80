"""The measuring tools: what they conclude from what they saw, and that their own parts work."""

from __future__ import annotations

import importlib
import json
import math
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Tool = Callable[[str], Any]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tool]:
    """Import a module of benchmarks/ or scripts/ by name; forgotten again afterwards."""
    for folder in ("benchmarks", "scripts"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(ROOT / "benchmarks") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_campaign_is_the_same_again_and_has_every_fault_alone_and_in_pairs(tool: Tool) -> None:
    faults = tool("campaign_targets")
    drawn = [faults.draw(7, index) for index in range(2000)]
    assert drawn == [faults.draw(7, index) for index in range(2000)]
    assert drawn != [faults.draw(8, index) for index in range(2000)]
    alone = {shots[0].kind for shots in drawn if len(shots) == 1}
    assert alone == {f"{one.name} {how}" for one in faults.TARGETS for how in one.hows}
    pairs = [shots for shots in drawn if len(shots) == 2]
    assert len(pairs) / len(drawn) == pytest.approx(faults.PAIRS, abs=0.05)
    assert all(first.after == 0 and 0 <= second.after <= faults.APART for first, second in pairs)
    assert {shot.kind for shots in pairs for shot in shots} > alone
    assert not any(first.how == second.how == faults.CHANGED for first, second in pairs)
    frozen = [shot.seconds for shots in drawn for shot in shots if shot.how == faults.FROZEN]
    assert faults.FREEZE[0] <= min(frozen) < max(frozen) <= faults.FREEZE[1]


def make_book(tool: Tool, file: Path, *rounds: dict[str, Any]) -> Any:  # noqa: ANN401 - of a benchmark
    book = tool("campaign_book").Book(file)
    book.add(seed=7, count=2)
    for index, one in enumerate(rounds, start=1):
        book.add(
            **{
                "index": index,
                "kinds": ["agent killed"],
                "verdict": "passed",
                "gap": 0.1,
                "whole": 2.0,
                "lost": 0,
                "doubled": 0,
                "two_primaries": 0,
                "writes": 100,
                "acknowledged": [[index * 10, index * 10 + 4]],
                **one,
            }
        )
    book.add(all=10, all_lost=[], all_doubled=[], acknowledged=[])
    book.add(left=[], status=0)
    return book


def test_a_campaign_goes_on_with_what_is_in_its_file(tool: Tool, tmp_path: Path) -> None:
    made = make_book(tool, tmp_path / "book", {}, {"verdict": "inconclusive", "gap": None})
    book = tool("campaign_book").Book.read(made.file)
    assert (book.seed, len(book.rounds), len(book.counted), book.missing) == (7, 2, 1, 1)
    assert book.acknowledged == {*range(10, 15), *range(20, 25)}
    assert tool("campaign_book").to_spans(book.acknowledged) == [[10, 14], [20, 24]]


@pytest.mark.parametrize(
    ("harm", "row"),
    [
        ({"verdict": "failed", "gap": None, "whole": None}, "rounds passed"),
        ({"verdict": "failed", "lost": 1}, "acknowledged writes lost"),
        ({"verdict": "failed", "doubled": 1}, "acknowledged writes lost"),
        ({"verdict": "failed", "two_primaries": 1}, "moments with two writable primaries"),
    ],
)
def test_a_campaign_with_one_bad_round_has_not_met_its_target(
    tool: Tool, tmp_path: Path, harm: dict[str, Any], row: str
) -> None:
    to_rows = tool("campaign_book").to_rows
    good = {one.what: one.met for one in to_rows(make_book(tool, tmp_path / "good", {}, {}))}
    assert good.pop("agent killed: longest gap") is None
    assert set(good.values()) == {True}
    bad = {one.what: one.met for one in to_rows(make_book(tool, tmp_path / "bad", {}, harm))}
    assert bad[row] is False
    short = {one.what: one.met for one in to_rows(make_book(tool, tmp_path / "short", {}))}
    assert short["rounds passed"] is False, "not all that were asked for"


def test_percentile_is_the_nearest_rank(tool: Tool) -> None:
    percentile = tool("common").percentile
    assert percentile([float(n) for n in range(1, 16)], 0.95) == 15
    assert percentile([float(n) for n in range(1, 101)], 0.95) == 95
    assert percentile([3.0], 0.95) == 3


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.1234, "0.123"), (1.5, "1.50"), (34_065.2, "34,065"), (99.99, "100.0")]
)
def test_figures_have_three_digits(tool: Tool, value: float, text: str) -> None:
    assert tool("common").shown(value) == text


def test_wrk_with_a_bad_answer_is_an_error(tool: Tool) -> None:
    parse = tool("load").parse_wrk
    assert parse("Requests/sec:  20775.16\nTransfer/sec: 3MB") == 20775.16
    with pytest.raises(RuntimeError, match="Non-2xx"):
        parse("  Non-2xx or 3xx responses: 4\nRequests/sec:  20775.16\n")
    with pytest.raises(RuntimeError, match="Socket errors"):
        parse("  Socket errors: connect 0, read 2, write 0, timeout 0\nRequests/sec:  20775.16\n")


def test_a_loss_is_what_was_acknowledged_after_the_last_write_that_came_back(tool: Tool) -> None:
    count = tool("loss").count_loss
    found = count([(8.0, 1), (9.0, 2), (10.0, 3), (11.0, 5), (12.0, 6)], {1, 3, 4}, last=9.9, back=30.0)
    assert (found.seconds, found.stated) == pytest.approx((2.0, 2.1))
    assert (found.writes, found.holes, found.rate) == (3, 1, 1.0)
    with pytest.raises(RuntimeError, match="nothing"):
        count([(8.0, 1), (9.0, 2)], {7}, last=0.0, back=1.0)


def test_a_writer_counts_the_gap_between_acknowledged_writes(tool: Tool) -> None:
    oracle = tool("oracle")
    writer = oracle.Writer(store=None, acknowledged=[(8.0, 1), (9.5, 2), (9.6, 3), (12.0, 4), (12.1, 5)])
    assert writer.longest_gap(10.0) == pytest.approx(2.4)
    assert writer.since(10.0) == 2


def test_a_measured_part_replaces_its_own_section_of_the_page_alone(tool: Tool) -> None:
    run, row = tool("run"), tool("common").Row("x", "s", (1.0, 2.0, 9.0), "y", "below 3", met=False)
    page = f"# before\n{run.BEGIN}\n### load\n\nold load\n\n### up\n\nold up\n{run.END}\nafter\n"
    text = run.render_page(page, {"up": [row]}, "a machine", "2026-11-22")
    assert "old up" not in text
    assert "old load" in text
    assert text.index("### up") < text.index("### load")
    assert text.startswith("# before\n")
    assert text.endswith("after\n")
    assert "| x | s | 1.00 | 2.00 | 9.00 | 3 | y | below 3 | **no** |" in text
    assert run.render_page(text, {"up": [row]}, "a machine", "2026-11-22") == text


def test_the_measured_machine_is_described_without_a_path(tool: Tool) -> None:
    words = tool("run").describe_machine()
    assert "/" not in words.replace("/s", "")
    assert "GiB" in words


def test_the_page_has_the_place_for_the_table(tool: Tool) -> None:
    run = tool("run")
    assert run.BEGIN in run.PAGE.read_text()
    assert run.END in run.PAGE.read_text()


def test_the_closing_line_of_a_suite_is_counted(tool: Tool) -> None:
    parse = tool("suites").parse_closing_line
    line = "== 1 failed, 7 passed, 2 skipped, 3 errors in 1.76s =="
    assert parse(line) == {"passed": 7, "failed": 4, "skipped": 2}
    assert parse("no tests ran in 0.01s") == {"passed": 0, "failed": 0, "skipped": 0}


def test_flagger_acts_at_the_check_after_the_one_that_failed_and_argo_at_once(tool: Tool) -> None:
    canary, tally = tool("canary"), importlib.import_module("asbuilt.plan.tally").Tally
    bad, fine = {"GET /": tally(10, 5)}, {"GET /": tally(10, 0)}

    def seconds(rejects: Callable[..., bool], answers: Callable[[int], object]) -> int | None:
        return next((n + 1 for n in range(300) if rejects(answers(n), {}, 1.0)), None)

    flagger = canary.Windowed(60, 0, patient=True, success=0.99)
    argo = canary.Windowed(60, 0, patient=False, success=0.99)
    assert (seconds(flagger.rejects, lambda _: bad), seconds(argo.rejects, lambda _: bad)) == (120, 60)
    tutorial = canary.Windowed(10, 9, patient=True, success=0.99)
    assert seconds(tutorial.rejects, lambda _: bad) == 110
    argo = canary.Windowed(60, 0, patient=False, success=0.99)
    assert seconds(argo.rejects, lambda _: fine) is None
    forgotten = canary.Windowed(60, 0, patient=False, success=0.99)
    assert seconds(forgotten.rejects, lambda n: bad if 60 <= n < 62 else fine) == 120


def test_simulated_requests_are_as_many_and_as_slow_as_they_should_be(tool: Tool) -> None:
    crowd, source = tool("crowd"), random.Random(1)
    users = crowd.Crowd(100.0, crowd.failing(crowd.SHOP, 0.1), source)
    ticks = [users.tick() for _ in range(200)]
    requests = sum(tally.requests for tick in ticks for tally in tick.values())
    errors = sum(tally.errors for tick in ticks for tally in tick.values())
    assert requests == pytest.approx(20_000, rel=0.05)
    assert errors == pytest.approx(2_000, rel=0.15)
    times = ticks[0]["GET /search"].times
    for tick in ticks[1:]:
        times.merge(tick["GET /search"].times)
    assert times.quantile(0.5) == pytest.approx(60, rel=0.1)
    assert times.quantile(0.9) == pytest.approx(60 * math.exp(0.7 * 1.2816), rel=0.1)


def test_theory_says_more_seconds_for_fewer_errors(tool: Tool) -> None:
    bound = tool("canary").bound
    assert bound(1.0) == pytest.approx(1, abs=0.1)
    assert bound(1.0) < bound(0.2) < bound(0.05) < bound(0.01)


def test_an_environment_is_whole_only_with_every_server_of_the_balancer(tool: Tool) -> None:
    server = importlib.import_module("asbuilt.engines.haproxy.admin").Server
    serves_all = tool("whole").serves_all
    up = [("app", "app-1"), ("app", "app-2"), ("database-primary", "db-1"), ("cache-primary", "cache-1")]
    servers = tuple(server(backend, name, "UP", 0, "L7OK") for backend, name in up)
    replica = server("database-replica", "db-2", "UP 1/3", 0, "L7OK")
    assert serves_all((*servers, replica), 2, 2)
    assert not serves_all(servers, 2, 2)
    assert not serves_all((*servers[1:], replica), 2, 2)


def test_an_environment_is_whole_only_with_a_replica_that_confirms(tool: Tool) -> None:
    is_redundant = tool("whole").is_redundant

    def said(*roles: str) -> str:
        members = [{"role": one, "state": "running" if one == "leader" else "streaming"} for one in roles]
        return json.dumps({"members": members})

    assert is_redundant(said("leader", "sync_standby", "replica"), 3)
    assert not is_redundant(said("leader", "replica", "replica"), 3)
    assert not is_redundant(said("leader", "sync_standby"), 3)
