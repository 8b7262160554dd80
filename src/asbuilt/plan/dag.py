"""A graph of what comes before what, with groups, so that the planner stays linear.

Invariant: nothing here knows workloads. "Every one of A before every one of B" costs |A| + |B| edges while
the order is worked out, because a group is a joint (a point between the two) and not a product.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PRODUCT_LIMIT: Final = 1024
"""Up to so many edges a group is written out in full, for the most parallelism. Beyond, the first of the
later group waits for the whole earlier group, and the others wait for that first one."""


class Dag:
    """Points (step ids) and edges "first, then"; filled by the planner, then asked once for the order."""

    def __init__(self, points: Iterable[str]) -> None:
        self._points = list(points)
        self._after: dict[str | int, list[str | int]] = {point: [] for point in self._points}
        self._before: dict[str | int, list[str | int]] = {point: [] for point in self._points}
        self._joints = 0

    def add(self, first: str, then: str) -> None:
        """`then` waits for `first`."""
        self._link(first, then)

    def barrier(self, firsts: Iterable[str], thens: Iterable[str]) -> None:
        """Each of `thens` waits for all of `firsts`."""
        earlier, later = list(firsts), list(thens)
        if not earlier or not later:
            return
        if len(earlier) == 1 or len(later) == 1:
            for first in earlier:
                for then in later:
                    self._link(first, then)
            return
        joint = self._joints
        self._joints += 1
        self._after[joint], self._before[joint] = [], []
        for first in earlier:
            self._link(first, joint)
        for then in later:
            self._link(joint, then)

    def barrier_if_free(self, firsts: Iterable[str], thens: Iterable[str]) -> None:
        """Like `barrier`, without those of `firsts` that come after one of `thens` already."""
        later = list(thens)
        if later:
            behind = self.descendants(later)
            self.barrier([first for first in firsts if first not in behind], later)

    def descendants(self, starts: Iterable[str]) -> set[str | int]:
        """Everything that comes after one of `starts`, and `starts` themselves."""
        return _reach(starts, self._after)

    def ancestors(self, starts: Iterable[str]) -> set[str | int]:
        """Everything that comes before one of `starts`, and `starts` themselves."""
        return _reach(starts, self._before)

    def order(self, key: Callable[[str], Any]) -> list[str]:
        """All points, each after those it waits for; among those that could be next, the least by `key`.

        In a circle of edges the points of it (and those after them) come last, by `key`: only edges that
        were added without a look at the others can make one (see `order_of_stopping`).
        """
        missing = {point: len(before) for point, before in self._before.items()}
        free = [(key(point), point) for point in self._points if not missing[point]]
        heapq.heapify(free)
        ordered: list[str] = []

        def release(point: str | int) -> None:
            for then in self._after[point]:
                missing[then] -= 1
                if missing[then]:
                    continue
                if isinstance(then, int):
                    release(then)
                else:
                    heapq.heappush(free, (key(then), then))

        while free:
            _, point = heapq.heappop(free)
            ordered.append(point)
            release(point)
        done = set(ordered)
        return ordered + sorted((p for p in self._points if p not in done), key=key)

    def needs(self, ordered: list[str]) -> dict[str, set[str]]:
        """What each point waits for, joints written out. `ordered` is the answer of `order`."""
        position = {point: number for number, point in enumerate(ordered)}
        found: dict[str, set[str]] = {
            point: {b for b in self._before[point] if isinstance(b, str)} for point in self._points
        }
        for joint in range(self._joints):
            earlier = [b for b in self._before[joint] if isinstance(b, str)]
            later = sorted((a for a in self._after[joint] if isinstance(a, str)), key=position.__getitem__)
            head, *rest = later
            found[head].update(earlier)
            small = len(earlier) * len(later) <= PRODUCT_LIMIT
            for then in rest:
                found[then].update(earlier if small else (head,))
        return found

    def _link(self, first: str | int, then: str | int) -> None:
        self._after[first].append(then)
        self._before[then].append(first)


def _reach(starts: Iterable[str], edges: dict[str | int, list[str | int]]) -> set[str | int]:
    seen: set[str | int] = set(starts)
    todo = deque(seen)
    while todo:
        for near in edges[todo.popleft()]:
            if near not in seen:
                seen.add(near)
                todo.append(near)
    return seen


def find_cycle(edges: dict[str, list[str]]) -> list[str]:
    """A circle in `edges`, its first point repeated at the end; empty when there is none. Linear."""
    state: dict[str, int] = {}
    for start, firsts in edges.items():
        if start in state:
            continue
        state[start] = 1
        path, walks = [start], [iter(firsts)]
        while walks:
            near = next(walks[-1], None)
            if near is None:
                state[path.pop()] = 2
                walks.pop()
            elif state.get(near) == 1:
                return [*path[path.index(near) :], near]
            elif near not in state:
                state[near] = 1
                path.append(near)
                walks.append(iter(edges[near]))
    return []
