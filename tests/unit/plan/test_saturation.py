from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.plan.saturation import Reading, check_saturation, find_time_left

QUIET = {"app-1": [Reading(float(n), 0.3, 0.4, 0.1) for n in range(60)]}


def candidate(**values: float) -> dict[str, list[Reading]]:
    return {"app-4": [Reading(float(n), **values) for n in range(60)]}  # type: ignore[arg-type]


def test_a_quiet_candidate_is_fine() -> None:
    assert check_saturation(candidate(cpu=0.5, memory=0.6, files=0.2), QUIET) is None
    assert check_saturation({}, {}) is None
    assert check_saturation({"app-4": []}, {"app-1": []}) is None


def test_what_is_not_known_is_no_fault() -> None:
    assert check_saturation(candidate(), QUIET) is None


@pytest.mark.parametrize(("field", "word"), [("memory", "memory"), ("files", "open files")])
def test_a_full_candidate_is_bad_unless_the_stable_servers_are_as_full(field: str, word: str) -> None:
    full = candidate(**{field: 0.93})
    found = check_saturation(full, QUIET)
    assert found is not None
    assert found.startswith(f"{word}: app-4 is at 93% of its limit")
    assert check_saturation(full, {"app-1": [Reading(0, **{field: 0.95})]}) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "theirs", "bad"), [(0, 0, False), (1, 0, True), (1, 1, False), (2, 1, True), (3, 5, False)]
)
def test_restarts_are_compared_with_the_stable_servers(ours: int, theirs: int, bad: bool) -> None:
    found = check_saturation(
        {"app-4": [Reading(0), Reading(9, restarts=ours)]},
        {"app-1": [Reading(9, restarts=theirs)], "app-2": [Reading(9)]},
    )
    assert (found is not None) == bad
    if found:
        assert found.startswith(f"restarts: app-4 was started again {ours} x")


def test_a_busy_candidate_is_bad_only_when_it_lasts() -> None:
    assert "CPU: app-4" in (check_saturation(candidate(cpu=0.99), QUIET) or "")
    peak = {"app-4": [Reading(float(n), 0.99 if n % 8 else 0.5) for n in range(60)]}
    assert check_saturation(peak, QUIET) is None
    short = {"app-4": [Reading(float(n), 0.99) for n in range(5)]}
    assert check_saturation(short, QUIET) is None
    assert check_saturation(candidate(cpu=0.99), {"app-1": candidate(cpu=0.98)["app-4"]}) is None


def test_a_leak_of_files_is_found_before_the_limit_is_met() -> None:
    leak = {"app-4": [Reading(float(n), files=0.02 + 0.001 * n) for n in range(60)]}
    assert check_saturation(leak, QUIET) == "open files: app-4 opens ever more, and meets its limit in 15 min"
    assert check_saturation(leak, QUIET, horizon=600) is None
    assert check_saturation(leak, {"app-1": leak["app-4"]}) is None


def test_starting_is_no_leak() -> None:
    start = {"app-4": [Reading(float(n), files=min(0.02 * n, 0.4)) for n in range(60)]}
    assert check_saturation(start, QUIET) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 0.5))
def test_noise_without_a_trend_is_no_leak(seed: int, level: float) -> None:
    source = random.Random(seed)
    assert find_time_left([(float(n), level + source.uniform(-0.01, 0.01)) for n in range(60)]) is None


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0005, 0.01), st.floats(0, 0.2), st.integers(20, 80))
def test_the_time_left_is_that_of_the_line(pace: float, first: float, readings: int) -> None:
    left = find_time_left([(float(n), first + pace * n) for n in range(readings)])
    assert left == pytest.approx(max(0, (1 - first) / pace - (readings - 1)), abs=0.01)


@settings(max_examples=60, deadline=None)
@given(st.floats(-0.01, 0), st.integers(0, 80))
def test_what_does_not_grow_never_meets_its_limit(pace: float, readings: int) -> None:
    assert find_time_left([(float(n), 0.9 + pace * n) for n in range(readings)]) is None
