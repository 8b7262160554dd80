"""The whole haproxy.cfg, rendered from the architecture and the place. Pure.

Invariant: the file alone says everything; what the runtime API changed is lost at the next reload and must be
in the arguments of the next rendering (`drained`, `disabled`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.engines.haproxy.apps import render_apps, render_choice, render_share
from asbuilt.engines.haproxy.names import ADMIN_SOCKET, APP, HOLD
from asbuilt.engines.haproxy.routes import count_connections, render_routes
from asbuilt.engines.haproxy.words import quote
from asbuilt.graph.model import Kind

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Site

CERTIFICATE = "public"
CONFIG = "conf/haproxy.cfg"
_REDIRECT_CONNECTIONS = 1000
_OWN_CONNECTIONS = 200
"""Statistics, metrics and the check of its own entry: they must answer when the entry is full."""
_REQUEST_ID = "%[rand,bytes(4),hex]" * 4
"""128 random bits: half the cost of uuid()."""
_LOG = (
    '{"ts":%Ts.%ms,"id":"%ID","client":"%ci","method":"%HM",'
    '"path":"%[capture.req.uri,field(1,?),json(utf8s)]","status":%ST,"backend":"%b","server":"%s","bytes":%B,'
    '"ms":%Ta,"wait_ms":%Tw,"connect_ms":%Tc,"response_ms":%Tr,"retries":"%rc","state":"%tsc","http":"%[fc_http_major]"}'
)


def clamp_connections(wanted: int, open_files: int | None) -> int:
    """Connections that fit into the files a process may open; None is no limit.

    A proxied connection needs two files while a request is under way and one while it is idle; one and a half
    is what 10,000 held connections were measured to stay well below.
    """
    if open_files is None:
        return wanted
    return max(100, min(wanted, (open_files - 2 * _OWN_CONNECTIONS) * 2 // 3))


def certificate_names(architecture: Architecture, site: Site) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Host names and addresses of the public certificate."""
    balancer = architecture.of(Kind.LOAD_BALANCER)[0]
    settings = architecture.spec.load_balancer
    domains = settings.domains if settings is not None else []
    addresses = dict.fromkeys(["127.0.0.1", site.addresses[balancer.id], site.entry.address])
    addresses.pop("0.0.0.0", None)  # noqa: S104 - every address, so none to name
    return tuple(sorted({"localhost", *domains})), tuple(sorted(addresses))


def entry_binds(site: Site, balancer: Node, port: int | None) -> list[tuple[str, int]]:
    """Where the entry listens: the public address and the balancer's own, or all."""
    if port is None:
        return []
    if site.entry.address == "0.0.0.0":  # noqa: S104 - the owner asked for it in the spec
        return [("0.0.0.0", port)]  # noqa: S104 - the same
    return [(host, port) for host in dict.fromkeys([site.entry.address, site.addresses[balancer.id]])]


def render_config(
    architecture: Architecture,
    site: Site,
    *,
    open_files: int | None = None,
    drained: AbstractSet[str] = frozenset(),
    disabled: AbstractSet[str] = frozenset(),
) -> str:
    """haproxy.cfg of the load balancer.

    Args:
        architecture: an environment with a load balancer.
        site: the place.
        open_files: files the process may open; None is no limit.
        drained: app nodes that get no new requests.
        disabled: app nodes that get none at all and are not checked.
    """
    balancer = architecture.of(Kind.LOAD_BALANCER)[0]
    settings = architecture.spec.load_balancer
    connections = clamp_connections(settings.connections if settings is not None else 100, open_files)
    lines = [
        *_render_global(connections, count_connections(architecture)),
        *render_share(site.fleet),
        *_render_defaults(),
        *_render_own(site, balancer),
        *_render_entry(architecture, site, balancer, connections),
        *render_apps(architecture, site, drained, disabled),
        *render_routes(architecture, site, balancer),
    ]
    return "\n".join(lines) + "\n"


def _render_global(connections: int, routed: int) -> list[str]:
    total = connections + routed + _REDIRECT_CONNECTIONS + _OWN_CONNECTIONS
    return [
        "# Made by asbuilt: changes here are lost.",
        "global",
        "    log stdout format raw local0 info",
        f"    maxconn {total}",
        "    # the files that are there must do: two are reserved per connection, and rarely used",
        "    no strict-limits",
        f"    stats socket unix@{ADMIN_SOCKET} mode 600 level admin expose-fd listeners",
        "    stats timeout 30s",
        "    # after a reload, streams and websockets of the old process may go on so long",
        "    hard-stop-after 5m",
        "    # check all servers at once after a start, however long the interval is",
        "    max-spread-checks 100",
        "    spread-checks 2",
        "    ssl-default-bind-options ssl-min-ver TLSv1.3",
        (
            "    ssl-default-bind-ciphersuites "
            "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
        ),
        "    tune.http.logurilen 4096",
    ]


def _render_defaults() -> list[str]:
    return [
        "",
        "defaults",
        "    mode http",
        "    log global",
        "    option dontlognull",
        "    timeout connect 2s",
        "    timeout client 60s",
        "    timeout server 60s",
        "    timeout queue 10s",
        "    timeout tunnel 1h",
        "    timeout client-fin 10s",
        "    # counted from accept: a client that sends its headers drop by drop is cut off",
        "    timeout http-request 10s",
        "    timeout http-keep-alive 60s",
    ]


def _render_own(site: Site, balancer: Node) -> list[str]:
    """Statistics, metrics, and whether the entry really answers."""
    host, port = entry_binds(site, balancer, site.entry.https_port)[-1] if site.entry.https_port else ("", 0)
    target = site.addresses[balancer.id] if host == "0.0.0.0" else host  # noqa: S104 - compared only
    authority = site.node_dir(balancer.id) / "certificates" / "ca.crt"
    return [
        "",
        "frontend own",
        f"    bind {site.addresses[balancer.id]}:{site.ports['haproxy-stats']}",
        f"    maxconn {_OWN_CONNECTIONS}",
        "    no log",
        "    monitor-uri /ready",
        "    monitor fail if { nbsrv(entry-check) eq 0 }",
        "    http-request use-service prometheus-exporter if { path /metrics }",
        "    stats enable",
        "    stats uri /",
        "    stats hide-version",
        "    stats refresh 5s",
        f"    stats auth {quote('asbuilt:' + site.secret('haproxy.stats').reveal())}",
        "",
        "# a handshake with its own entry, as a user would make it",
        "backend entry-check",
        "    mode tcp",
        "    timeout check 2s",
        (
            f"    server entry {target}:{port} check inter 5s fastinter 500ms downinter 500ms fall 2 rise 1 "
            f"check-ssl check-sni localhost verify required verifyhost localhost ca-file {quote(authority)}"
        ),
    ]


def _render_entry(architecture: Architecture, site: Site, balancer: Node, connections: int) -> list[str]:
    settings = architecture.spec.load_balancer
    domains = list(settings.domains) if settings is not None else []
    certificate = site.node_dir(balancer.id) / "certificates" / f"{CERTIFICATE}.pem"
    names, addresses = certificate_names(architecture, site)
    https = site.entry.https_port
    lines = [
        "",
        "frontend public",
        f"    # certificate for {', '.join((*names, *addresses))}",
        *(
            f"    bind {host}:{port} ssl crt {quote(certificate)} alpn h2,http/1.1"
            for host, port in entry_binds(site, balancer, https)
        ),
        f"    maxconn {connections}",
        "    # a request that comes in on an idle connection during a reload is answered, not cut off",
        "    option idle-close-on-response",
        f"    log-format {quote(_LOG)}",
        f"    unique-id-format {_REQUEST_ID}",
        "    unique-id-header X-Request-ID",
        "    # the app may believe these: what the client said is replaced. Host arrives as it was sent,",
        "    # with the port. (Once a prefix is gone, adding is cheaper than searching.)",
        "    http-request del-header X-Forwarded- -m beg",
        "    http-request del-header X-Request-ID",
        "    http-request del-header Forwarded",
        "    option forwardfor",
        "    http-request add-header X-Forwarded-Proto https",
        "    # only what may run twice is sent twice; a refused connection is always tried elsewhere",
        "    http-request disable-l7-retry if !METH_GET !{ method OPTIONS PUT DELETE TRACE }",
        "    http-after-response set-header X-Request-ID %[unique-id]",
    ]
    if domains:
        # never for localhost: it would bind every other program of the developer's browser to TLS
        lines += [
            *(
                f"    acl own_domain req.hdr(host),host_only -m {'end' if domain.startswith('*') else 'str'} "
                f"-i {quote(domain.removeprefix('*'))}"
                for domain in domains
            ),
            "    http-request set-var(txn.own_domain) bool(true) if own_domain",
            (
                "    http-response set-header Strict-Transport-Security max-age=31536000 "
                "if { var(txn.own_domain) -m bool }"
            ),
        ]
    lines += [
        *render_choice(site.fleet),
        "    # every check failed: one shared cause is likelier than so many causes at once",
        f"    use_backend {HOLD} if {{ nbsrv({APP}) eq 0 }}",
        f"    default_backend {APP}",
    ]
    return [*lines, *_render_redirect(site, balancer)]


def _render_redirect(site: Site, balancer: Node) -> list[str]:
    https = site.entry.https_port
    if site.entry.http_port is None or https is None:
        return []
    port = "" if https == 443 else f":{https}"  # noqa: PLR2004 - the port that a URL leaves out
    return [
        "",
        "frontend redirect",
        *(f"    bind {host}:{at}" for host, at in entry_binds(site, balancer, site.entry.http_port)),
        f"    maxconn {_REDIRECT_CONNECTIONS}",
        f"    log-format {quote(_LOG)}",
        f"    unique-id-format {_REQUEST_ID}",
        "    http-after-response set-header X-Request-ID %[unique-id]",
        "    http-request return status 404 if { path_beg /.well-known/acme-challenge/ }",
        "    http-request deny deny_status 400 unless { req.hdr(host) -m found }",
        f"    http-request redirect code 308 location https://%[req.hdr(host),host_only]{port}%[pathq]",
    ]
