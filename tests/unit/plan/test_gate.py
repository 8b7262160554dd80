"""What the gate says of simulated releases, and that it says nothing it does not know."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.plan.comparison import POOLED, Comparison, Slow, route_weight
from asbuilt.plan.evidence import TIMES, Count
from asbuilt.plan.gate import Finding, Gate, Metric, Settings, Verdict
from asbuilt.plan.histogram import Histogram
from asbuilt.plan.tally import Tally


def tally(source: random.Random, requests: int, errors: float = 0.002, times: float = 1.0) -> Tally:
    """Answers that take 20 to 60 ms, so many times as long."""
    found = Tally(requests, sum(source.random() < errors for _ in range(requests)))
    for _ in range(requests):
        found.times.add(times * (20 + 40 * source.random()))
    return found


def judge(
    ticks: int = 60,
    wanted: Settings | None = None,
    *,
    before: int = 0,
    ours: int = 10,
    theirs: int = 90,
    errors: float = 0.002,
    times: float = 1.0,
    orders: tuple[int, int] | None = None,
) -> tuple[int, Finding]:
    """The tick and the finding when it is decided that the release is bad, or those of the last tick."""
    source, gate = random.Random(1), Gate(wanted or Settings(), "r2", "r1")
    for tick in range(ticks):
        late = tick >= before
        finding = gate.observe(
            {"GET /": tally(source, ours, errors if late else 0.002, times if late else 1.0)},
            {"GET /": tally(source, theirs)},
            1.0,
            {"orders": orders} if orders else None,
        )
        if finding.verdict is Verdict.BAD:
            break
    return tick + 1, finding


def test_a_release_that_fails_is_bad_at_once() -> None:
    ticks, finding = judge(errors=1.0)
    assert (ticks, finding.verdict, finding.reason) == (1, Verdict.BAD, "errors")
    assert finding.text.startswith("errors: 10 of 10 requests of r2 against 0 of 90 of r1: ")
    assert finding.text.endswith(" to 1 that r2 is more than 1.5 x as bad")


@pytest.mark.parametrize(("errors", "within"), [(0.2, 8), (0.05, 40)])
def test_a_release_that_fails_sometimes_is_bad_soon(errors: float, within: int) -> None:
    ticks, finding = judge(errors=errors)
    assert (finding.verdict, finding.reason) == (Verdict.BAD, "errors")
    assert ticks <= within


def test_a_slow_release_is_bad_after_its_warm_up() -> None:
    ticks, finding = judge(times=2.5)
    assert (finding.verdict, finding.reason) == (Verdict.BAD, "latency")
    assert 5 < ticks < 20
    assert finding.text.endswith(" to 1 that r2 is slower by more than 1.25 x and 5 ms")


def test_a_release_within_the_tolerance_is_not_slow() -> None:
    _, finding = judge(200, times=1.2)
    assert finding.verdict is Verdict.GOOD


def test_a_release_that_is_like_the_stable_one_becomes_good() -> None:
    _, finding = judge(60)
    assert finding.verdict is Verdict.GOOD
    assert finding.text.startswith("good: ")
    assert "errors in 600 requests of r2" in finding.text


def test_what_goes_wrong_later_is_found_soon() -> None:
    ticks, finding = judge(200, before=100, errors=0.3)
    assert finding.verdict is Verdict.BAD
    assert ticks <= 110


def test_a_fault_that_both_share_is_not_the_candidates() -> None:
    source, gate = random.Random(2), Gate(Settings())
    for _ in range(60):
        finding = gate.observe({"a": tally(source, 10, 0.4)}, {"a": tally(source, 90, 0.4)}, 1)
        assert finding.verdict is not Verdict.BAD


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (0, 90)])
def test_without_requests_nothing_is_known(ours: int, theirs: int) -> None:
    _, finding = judge(100, ours=ours, theirs=theirs)
    assert finding.verdict is Verdict.UNDECIDED


def test_good_has_to_be_shown_again_at_each_step() -> None:
    source, gate = random.Random(3), Gate(Settings())
    for _ in range(60):
        finding = gate.observe({"a": tally(source, 10)}, {"a": tally(source, 90)}, 1)
    assert finding.verdict is Verdict.GOOD
    gate.begin_step()
    assert gate.observe({}, {"a": tally(source, 90)}, 1).verdict is Verdict.UNDECIDED


def test_bad_stays_bad() -> None:
    source, gate = random.Random(4), Gate(Settings())
    assert gate.observe({"a": Tally(10, 10)}, {"a": Tally(90, 0)}, 1).verdict is Verdict.BAD
    gate.begin_step()
    for _ in range(50):
        finding = gate.observe({"a": tally(source, 50, 0)}, {"a": tally(source, 50, 0.2)}, 1)
    assert finding.verdict is Verdict.BAD


def test_what_fails_on_one_route_only_is_found_and_named() -> None:
    source, gate = random.Random(5), Gate(Settings(), "r2", "r1")
    for _ in range(20):
        finding = gate.observe(
            {"GET /": tally(source, 40), "POST /orders": tally(source, 2, 0.5)},
            {"GET /": tally(source, 360, 0.01), "POST /orders": tally(source, 18)},
            1,
        )
        if finding.verdict is Verdict.BAD:
            break
    assert finding.verdict is Verdict.BAD
    assert finding.text.startswith("errors on POST /orders: ")


def test_the_evidence_is_a_document() -> None:
    _, finding = judge(errors=1.0)
    document: Any = json.loads(json.dumps(finding.evidence))
    assert document["verdict"] == "bad"
    assert document["reason"] == "errors"
    assert document["candidate"] == {"requests": 10, "events": 10}
    assert document["stable"] == {"requests": 90, "events": 0}
    assert document["together"] >= document["needed"]["bad"] == 100


def test_a_limit_on_errors_needs_no_stable_release() -> None:
    ticks, finding = judge(60, Settings(error_limit=0.01), theirs=0, errors=0.2)
    assert (finding.verdict, finding.reason) == (Verdict.BAD, "error limit")
    assert ticks < 15
    assert "requests of r2 failed: " in finding.text
    assert finding.text.endswith(" to 1 that more than 1 % do")
    assert judge(60, Settings(error_limit=0.3), theirs=0, errors=0.2)[1].verdict is Verdict.UNDECIDED


def test_a_limit_on_times_is_about_95_of_100() -> None:
    assert judge(60, Settings(time_limit=70), times=1.2)[1].reason != "latency"
    ticks, finding = judge(60, Settings(time_limit=45))
    assert (finding.verdict, finding.reason) == (Verdict.BAD, "time limit")
    assert ticks > 5
    assert "requests of r2 took longer than 45 ms: " in finding.text
    assert judge(60, Settings(time_limit=65))[1].verdict is Verdict.GOOD


@pytest.mark.parametrize(
    ("lower", "orders", "bad"),
    [(True, (0, 9), True), (True, (1, 9), False), (False, (5, 9), True), (False, (1, 9), False)],
)
def test_a_metric_of_the_business_is_compared(lower: bool, orders: tuple[int, int], bad: bool) -> None:
    wanted = Settings(metrics=(Metric("orders", lower_is_worse=lower),))
    _, finding = judge(100, wanted, orders=orders)
    assert (finding.verdict is Verdict.BAD) == bad
    if bad:
        assert finding.reason == "orders"
        word = "less than 1 / 1.25" if lower else "more than 1.25"
        assert finding.text.endswith(f"r2 is {word} x as often")


def test_the_weights_of_all_routes_are_no_more_than_the_whole() -> None:
    assert POOLED + sum(route_weight(place) for place in range(10_000)) <= 1
    comparison = Comparison(1.5, TIMES)
    comparison.see({f"route {n}": (Count(1, 0), Count(9, 0)) for n in range(33)})
    assert comparison.value == pytest.approx(1)


def test_slow_is_measured_by_earlier_ticks_only() -> None:
    slow = Slow(0.9, 1.25, 5.0, 50)
    usual, late = {"a": Tally(100, 0, Histogram({100: 100}))}, {"a": Tally(100, 0, Histogram({150: 100}))}
    assert slow.count(usual, usual) == {}
    slow.learn(usual)
    assert slow.count(late, late) == {"a": (Count(100, 100), Count(100, 100))}
    assert slow.count(usual, usual) == {"a": (Count(100, 0), Count(100, 0))}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 200), st.integers(0, 200)),
        max_size=30,
    )
)
def test_a_verdict_always_rests_on_its_evidence(ticks: list[tuple[int, int, int, int]]) -> None:
    gate, bad = Gate(Settings(warm_up=0)), False
    for a, b, c, d in ticks:
        ours, theirs = Tally(max(a, b), b, Histogram({60: a})), Tally(max(c, d), d, Histogram({60: c}))
        finding = gate.observe({"a": ours}, {"a": theirs}, 1)
        evidence: Any = finding.evidence
        assert (finding.verdict is Verdict.BAD) == (evidence["together"] >= evidence["needed"]["bad"])
        assert finding.verdict is Verdict.BAD or not bad
        bad = finding.verdict is Verdict.BAD
        if finding.verdict is Verdict.GOOD:
            assert min(evidence["good"].values()) >= evidence["needed"]["good"]


def test_identical_releases_are_hardly_ever_called_bad() -> None:
    """Times from a shared pool, so that many rollouts are simulated in a second."""
    source = random.Random(6)
    pool = [Histogram(dict.fromkeys(source.sample(range(80, 120), 9), 1)) for _ in range(50)]
    runs, bad = 150, 0
    for _ in range(runs):
        gate = Gate(Settings())
        for tick in range(40):
            if tick == 20:
                gate.begin_step()
            share = 9 if tick < 20 else 2
            stable = Tally()
            for _ in range(share):
                stable.merge(Tally(9, source.random() < 0.05, source.choice(pool)))
            ours = Tally(9, source.random() < 0.05, source.choice(pool))
            finding = gate.observe({"a": ours}, {"a": stable}, 1)
        bad += finding.verdict is Verdict.BAD
    # at most 1.5 are expected
    assert bad <= 6
