"""The app servers' part of haproxy.cfg: their backends, and the choice between two releases. Pure.

Invariant: a server is in the backend of its release, so that the balancer counts each release for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.engines.haproxy.names import APP, CANDIDATE, HOLD, SHARE
from asbuilt.engines.haproxy.words import milliseconds, quote, quote_format
from asbuilt.graph.model import Kind

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from asbuilt.graph.model import Architecture
    from asbuilt.plan.fleet import Fleet
    from asbuilt.plan.site import Site
    from asbuilt.spec.schema import LoadBalancer

_BUCKET = "asbuilt-bucket"
"""Cookie with a number below 10,000: who has one below the share belongs to the candidate."""


def render_share(fleet: Fleet | None) -> list[str]:
    """The share as it is after a start or a reload; belongs into `global`."""
    if fleet is None or fleet.candidate is None:
        return []
    return [f"    set-var {SHARE} int({fleet.share})"]


def render_choice(fleet: Fleet | None) -> list[str]:
    """Which release answers, while there are two."""
    if fleet is None or fleet.candidate is None:
        return []
    lines = ["    http-request set-var(txn.bucket) rand(10000)"]
    if fleet.sticky:
        lines = [
            "    # a user keeps the number, so nobody changes sides twice while the share grows",
            f"    acl has_bucket req.cook({_BUCKET}) -m reg ^[0-9]{{1,4}}$",
            f"    http-request set-var(txn.bucket) req.cook_val({_BUCKET}) if has_bucket",
            "    http-request set-var(txn.bucket) rand(10000) if !has_bucket",
            "    http-request set-var(txn.fresh) bool(true) if !has_bucket",
            (
                f'    http-after-response add-header Set-Cookie "{_BUCKET}=%[var(txn.bucket)]; Path=/; '
                'Max-Age=86400; HttpOnly; Secure; SameSite=Lax" if { var(txn.fresh) -m bool }'
            ),
        ]
    return [
        *lines,
        f"    acl candidate_lives nbsrv({CANDIDATE}) gt 0",
        f"    use_backend {CANDIDATE} if {{ var(txn.bucket),sub({SHARE}) lt 0 }} candidate_lives",
        f"    use_backend {CANDIDATE} if {{ nbsrv({APP}) eq 0 }} candidate_lives",
    ]


def render_apps(
    architecture: Architecture, site: Site, drained: AbstractSet[str], disabled: AbstractSet[str]
) -> list[str]:
    """The backends of the app servers; nothing without a load balancer."""
    settings = architecture.spec.load_balancer
    if settings is None:
        return []
    fleet = site.fleet
    stable: list[str] = []
    candidate: list[str] = []
    for node in architecture.of(Kind.APP):
        address = f"{site.addresses[node.id]}:{site.ports[node.id]}"
        line = f"    server {node.id} {address}{_state(node.id, drained, disabled)}"
        apart = fleet is not None and fleet.is_candidate(node.number)
        (candidate if apart else stable).append(line)
    rules = _render_rules(settings, architecture.spec.app.health)
    two = fleet is not None and fleet.candidate is not None
    return [
        *_render_backend(APP, rules, stable),
        *(_render_backend(CANDIDATE, rules, candidate) if two else []),
        "",
        f"backend {HOLD}",
        "    # a server that is being restarted is tried each second, every third time another. Where the",
        "    # choice is not by hash, every try goes to another, and all are used up within a millisecond.",
        "    balance hash rand(1000)",
        "    retries 15",
        "    option redispatch 3",
        "    retry-on conn-failure empty-response",
        *stable,
    ]


def _render_backend(name: str, rules: list[str], servers: list[str]) -> list[str]:
    return [
        "",
        f"backend {name}",
        "    # a server that hangs collects connections and so gets no more of them",
        "    balance leastconn",
        "    # two failed requests take a server out at once: so a request survives any number of dead ones",
        f"    retries {max(3, 2 * len(servers))}",
        *rules,
        *servers,
    ]


def _render_rules(settings: LoadBalancer, health: str) -> list[str]:
    check = settings.health_check
    host = next((name for name in settings.domains if not name.startswith("*")), "localhost")
    fast = milliseconds(min(check.fast_interval, check.interval))
    return [
        "    option redispatch 1",
        "    retry-on conn-failure empty-response response-timeout",
        "    # a GET without an answer is tried elsewhere after this time; an event stream may be silent",
        "    timeout server 30s",
        "    http-request set-timeout server 60s if !METH_GET",
        "    http-request set-timeout server 1h if { req.hdr(accept) -m sub text/event-stream }",
        "    option httpchk",
        (
            f"    http-check send meth GET uri {quote(check.path or health)} ver HTTP/1.1 "
            f"hdr Host {quote_format(host)} hdr User-Agent asbuilt"
        ),
        "    http-check expect status 200-399",
        f"    timeout check {milliseconds(check.timeout)}",
        "    # one failed request is reason to ask at once, one bad answer then to take the server out",
        (
            f"    default-server check inter {milliseconds(check.interval)} fastinter {fast} "
            f"downinter {fast} fall 2 rise 1 observe layer7 error-limit 1 on-error sudden-death "
            "pool-purge-delay 2s"
        ),
    ]


def _state(node: str, drained: AbstractSet[str], disabled: AbstractSet[str]) -> str:
    if node in disabled:
        return " disabled"
    return " weight 0" if node in drained else ""
