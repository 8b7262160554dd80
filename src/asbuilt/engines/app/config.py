"""What an app instance is given: its variables and its command line. Pure.

Invariant: a secret leaves only as a secret variable, never in a command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from asbuilt.engines.files.engine import files_dir
from asbuilt.engines.seaweedfs.config import bucket_name
from asbuilt.engines.seaweedfs.names import APP_ACCESS, APP_SECRET, REGION
from asbuilt.graph.model import Kind
from asbuilt.spec.command import CommandError, expand, parse_command
from asbuilt.values.errors import UsageError
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Release, Site

BASE_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The search path after the release's own: fixed, so that an app does not depend on its owner's shell."""
BUILD: Final = "app.build"
"""Id of the setup that makes the app's build."""
_DATABASE: Final = "app"
_USER: Final = "app"
_SECRET_MARK: Final = "\0secret\0"  # noqa: S105 - stands in for one


@dataclass(frozen=True, slots=True)
class Variables:
    """The environment of one instance, sorted by name."""

    plain: tuple[tuple[str, str], ...]
    secret: tuple[tuple[str, Secret], ...]


def has_route(architecture: Architecture, kind: Kind) -> bool:
    """Whether the app reaches nodes of `kind` through the load balancer: there is one, and a choice."""
    return bool(architecture.of(Kind.LOAD_BALANCER)) and len(architecture.of(kind)) > 1


def build_variables(
    architecture: Architecture, site: Site, release: Release, node: Node | None, *, writable: str
) -> Variables:
    """All variables of an instance, or of the migration when `node` is None.

    `env:` and `secrets:` of the spec may replace the addresses of the services (an owner may bring a database
    of their own), but not what makes the instance this instance.

    `writable` is the folder with the instance's own `home` and `tmp`.
    """
    spec = release.app or architecture.spec.app
    plain, secret = _services(architecture, site)
    own = {
        **dict(release.env),
        "ASBUILT_ENVIRONMENT": architecture.environment,
        "ASBUILT_NODE": node.id if node else "app.migrate",
        "ASBUILT_RELEASE": release.id,
        "HOME": f"{writable}/home",
        "TMPDIR": f"{writable}/tmp",  # noqa: S108 - below the instance's own folder
        "PATH": ":".join((*release.path, BASE_PATH)),
    }
    if node:
        own |= {"HOST": site.addresses[node.id], "PORT": str(site.ports[node.id])}
    given: dict[str, str | Secret] = {
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **plain,
        **secret,
        **spec.env,
        **(site.app_secrets if release.secrets is None else release.secrets),
        **own,
    }
    return Variables(
        tuple(sorted((name, value) for name, value in given.items() if isinstance(value, str))),
        tuple(sorted((name, value) for name, value in given.items() if isinstance(value, Secret))),
    )


def _services(architecture: Architecture, site: Site) -> tuple[dict[str, str], dict[str, Secret]]:
    """Where the database, the cache, the objects and the files are."""
    plain: dict[str, str] = {}
    secret: dict[str, Secret] = {}
    balancer = next((node.id for node in architecture.of(Kind.LOAD_BALANCER)), None)
    databases, caches = architecture.of(Kind.DATABASE), architecture.of(Kind.CACHE)
    if databases:
        primary = replica = (site.addresses[databases[0].id], site.ports["postgresql"])
        if balancer and has_route(architecture, Kind.DATABASE):
            primary = (site.addresses[balancer], site.ports["route-primary"])
            replica = (site.addresses[balancer], site.ports["route-replica"])
        password = quote(site.secret("database.app").reveal(), safe="")
        for name, (host, port) in (("DATABASE_URL", primary), ("DATABASE_REPLICA_URL", replica)):
            secret[name] = Secret(f"postgresql://{_USER}:{password}@{host}:{port}/{_DATABASE}")
    if caches:
        host, port = site.addresses[caches[0].id], site.ports["redis"]
        if balancer and has_route(architecture, Kind.CACHE):
            host, port = site.addresses[balancer], site.ports["route-cache"]
        password = quote(site.secret("cache.password").reveal(), safe="")
        secret["REDIS_URL"] = Secret(f"redis://:{password}@{host}:{port}/0")
    bucket = bucket_name(architecture)
    if bucket:
        stores = architecture.of(Kind.OBJECTS)
        plain |= {
            "AWS_ENDPOINT_URL_S3": f"http://{site.addresses[stores[0].id]}:{site.ports['s3']}",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "S3_BUCKET": bucket,
        }
        secret["AWS_ACCESS_KEY_ID"] = site.secret(APP_ACCESS)
        secret["AWS_SECRET_ACCESS_KEY"] = site.secret(APP_SECRET)
    if architecture.of(Kind.FILES):
        plain["FILES_DIR"] = str(files_dir(site))
    return plain, secret


def build_argv(command: str | list[str], variables: Variables, *, field: str) -> tuple[str, ...]:
    """The words of a command with the variables filled in.

    Raises:
        UsageError: APP-001 it would put a secret into the command line; APP-002 it can't be understood.
    """
    secrets = {name for name, _ in variables.secret}
    values = {**dict(variables.plain), **{name: f"{_SECRET_MARK}{name}\0" for name in secrets}}
    try:
        words = expand(parse_command(command), values)
    except CommandError as error:
        raise UsageError("APP-002", f"{field}: {error.what}", where=field, hint=error.hint) from None
    exposed = [name for name in sorted(secrets) if any(f"{_SECRET_MARK}{name}\0" in word for word in words)]
    if exposed:
        name = exposed[0]
        raise UsageError(
            "APP-001",
            f"{field} would show the secret ${name} to every user of the machine: command lines are public",
            where=field,
            hint=f"let the program read {name} from its environment; every variable of the app is there",
        )
    return words
