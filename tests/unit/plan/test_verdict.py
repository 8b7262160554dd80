"""The verdict cannot be talked into passing: whatever is worse, never passes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from asbuilt.plan.verdict import RATE, Check, Decision, Observed, Promise, Verdict, combine, decide

PROMISE = Promise("database failure", 300.0, 0.0)
GOOD = Observed(fault_on=True, rto=2.0, rpo=0.0, rate=200.0)
checks = st.builds(Check, st.text(max_size=5), st.booleans(), st.text(max_size=5))
promises = st.builds(Promise, st.just("x"), st.floats(1, 1000), st.none() | st.floats(0, 10))
observations = st.builds(
    Observed,
    fault_on=st.booleans(),
    rto=st.none() | st.floats(0, 2000),
    rpo=st.none() | st.floats(0, 20),
    lost=st.integers(0, 2),
    doubled=st.integers(0, 2),
    two_primaries=st.integers(0, 2),
    rate=st.none() | st.floats(0, 500),
    counted=st.booleans(),
    removed=st.booleans(),
    whole=st.booleans(),
    left=st.lists(st.just("something"), max_size=1).map(tuple),
    checks=st.lists(checks, max_size=2).map(tuple),
    aborted=st.sampled_from(["", "interrupted"]),
)


def test_a_good_round_passes_and_says_nothing() -> None:
    assert decide(PROMISE, GOOD) == Decision(Verdict.PASSED)


@given(promises, observations)
def test_passed_means_all_of_it(promise: Promise, seen: Observed) -> None:
    decision = decide(promise, seen)
    if decision.verdict is not Verdict.PASSED:
        assert decision.reasons
        return
    assert decision.reasons == ()
    assert seen.fault_on
    assert seen.rto is not None
    assert seen.rto <= promise.rto
    assert (seen.lost, seen.doubled, seen.two_primaries, seen.aborted) == (0, 0, 0, "")
    assert seen.counted
    assert seen.removed
    assert seen.whole
    assert seen.left == ()
    assert all(check.good for check in seen.checks)
    assert seen.rate is None or seen.rate >= RATE


@given(promises, observations)
def test_harm_is_never_hidden(promise: Promise, seen: Observed) -> None:
    verdict = decide(promise, seen).verdict
    if seen.lost or seen.doubled or seen.two_primaries:
        assert verdict is Verdict.FAILED
    elif seen.aborted and (seen.rpo is None or promise.rpo is None or seen.rpo <= promise.rpo):
        assert verdict is Verdict.ABORTED


WORSE = st.sampled_from(
    [
        {"fault_on": False},
        {"rto": None},
        {"lost": 1},
        {"doubled": 1},
        {"two_primaries": 1},
        {"rate": 1.0},
        {"counted": False},
        {"removed": False},
        {"whole": False},
        {"left": ("something",)},
        {"checks": (Check("it holds", good=False),)},
        {"aborted": "interrupted"},
    ]
)


@given(promises, observations, WORSE)
def test_what_is_worse_never_passes(promise: Promise, seen: Observed, worse: dict[str, object]) -> None:
    assert decide(promise, replace(seen, **worse)).verdict is not Verdict.PASSED  # type: ignore[arg-type]


def test_without_evidence_of_the_fault_it_is_inconclusive_even_when_all_went_well() -> None:
    assert decide(PROMISE, replace(GOOD, fault_on=False)).verdict is Verdict.INCONCLUSIVE
    assert decide(PROMISE, replace(GOOD, rate=10.0)).verdict is Verdict.INCONCLUSIVE


def test_a_declared_bound_of_loss_is_kept_to() -> None:
    cache = Promise("cache failure", 120.0, 1.0)
    assert decide(cache, replace(GOOD, rpo=0.4)).verdict is Verdict.PASSED
    assert decide(cache, replace(GOOD, rpo=1.4)).verdict is Verdict.FAILED


@given(st.lists(st.sampled_from(list(Verdict)), max_size=6))
def test_of_many_rounds_the_worst_counts(verdicts: list[Verdict]) -> None:
    found = combine(Decision(one, (str(one),)) for one in verdicts)
    if not verdicts:
        assert found.verdict is Verdict.INCONCLUSIVE
        return
    assert found.verdict in verdicts
    assert (found.verdict is Verdict.PASSED) == (set(verdicts) == {Verdict.PASSED})
    assert (found.verdict is Verdict.FAILED) == (Verdict.FAILED in verdicts)
