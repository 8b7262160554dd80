from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.plan.histogram import Histogram
from asbuilt.plan.tally import MOST, OTHER, Routes, Tally, route_of


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "GET /"),
        ("", "GET /"),
        ("/products", "GET /products"),
        ("/products/", "GET /products"),
        ("//products", "GET /products"),
        ("/products/42", "GET /products/*"),
        ("/products/42/reviews/7", "GET /products/*/reviews"),
        ("/products/42?page=3", "GET /products/*"),
        ("/search?q=a/b/1", "GET /search"),
        ("/users/0b8c5f0e-93a1-4f4e-8d2a-7a0c9d1e2f33", "GET /users/*"),
        ("/users/0B8C5F0E-93A1-4F4E-8D2A-7A0C9D1E2F33", "GET /users/*"),
        ("/blobs/da39a3ee5e6b4b0d3255bfef95601890afd80709", "GET /blobs/*"),
        ("/s/eyJhbGciOiJIUzI1NiJ9abcdef", "GET /s/*"),
        ("/orders/ord-1042", "GET /orders/*"),
        ("/api/v1/orders", "GET /api/v1/orders"),
        ("/api/v2/orders/9", "GET /api/v2/orders"),
        ("/static/app.js", "GET /static/app.js"),
        ("/deadbeef", "GET /deadbeef"),
        ("/" + "x" * 60, "GET /*"),
    ],
)
def test_ids_are_no_routes(path: str, route: str) -> None:
    assert route_of("GET", path) == route


def test_the_method_is_part_of_the_route() -> None:
    assert route_of("POST", "/orders/1") == "POST /orders/*"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.integers(0))
def test_an_id_never_makes_a_route_of_its_own(path: str, number: int) -> None:
    assert route_of("GET", f"/orders/{number}/{path}") == route_of("GET", f"/orders/{number + 1}/{path}")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_every_path_has_a_short_route(path: str) -> None:
    assert len(route_of("GET", path)) <= len("GET ") + 3 * 41


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=4), max_size=200), st.integers(1, 40))
def test_there_are_never_more_routes_than_allowed(asked: list[str], most: int) -> None:
    routes = Routes(most)
    names = [routes.name(one) for one in asked]
    assert len(set(names) - {OTHER}) <= most
    assert names == [name if name == OTHER else one for one, name in zip(asked, names, strict=True)]
    known = set(list(dict.fromkeys(asked))[:most])
    assert all(
        (name == one) == (one in known) or one == OTHER for one, name in zip(asked, names, strict=True)
    )


def test_the_rest_is_one_route() -> None:
    routes = Routes()
    names = {routes.name(f"GET /{chr(97 + n % 26)}{n // 26 * 'x'}") for n in range(100)}
    assert len(names) == MOST + 1
    assert OTHER in names


def test_tallies_add_up() -> None:
    one, other = Tally(3, 1, Histogram({5: 2})), Tally(4, 2, Histogram({5: 1, 9: 3}))
    one.merge(other)
    assert one == Tally(7, 3, Histogram({5: 3, 9: 3}))
