"""The typed shape of asbuilt.yaml. The docstrings here are the reference manual and the editors' help.

Invariant: past `load` nobody sees a dictionary. Unknown keys are refused. Every number of the source
document is a default in `presets`, not here, so that one place holds each.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from asbuilt.values.units import Count, Duration, Size, SizeRange

_Value = TypeVar("_Value", Size, Duration, Count, SizeRange)


def _parser(kind: type[_Value]) -> BeforeValidator:
    def parse(value: Any) -> Any:  # noqa: ANN401 - the raw scalar of the file, whatever it is
        if isinstance(value, kind):
            return value
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise ValueError(f"expected {_EXPECTED[kind]}")  # noqa: TRY004 - pydantic collects ValueErrors only
        return kind.parse(str(value))

    return BeforeValidator(parse)


_EXPECTED: dict[type, str] = {
    Size: "a size like 512MB or 16GB",
    Duration: "a duration like 30s or 5m",
    Count: "a number or a range like 3..20",
    SizeRange: "a size or a range of sizes like 500GB..2TB",
}

_TEXT = PlainSerializer(str, return_type=str)
SizeField = Annotated[
    Size, _parser(Size), _TEXT, WithJsonSchema({"type": "string", "examples": ["512MB", "16GB"]})
]
DurationField = Annotated[
    Duration, _parser(Duration), _TEXT, WithJsonSchema({"type": "string", "examples": ["500ms", "30s", "5m"]})
]
CountField = Annotated[
    Count,
    _parser(Count),
    _TEXT,
    WithJsonSchema({"type": ["integer", "string"], "examples": [3, "3..20"]}),
]
SizeRangeField = Annotated[
    SizeRange,
    _parser(SizeRange),
    _TEXT,
    WithJsonSchema({"type": "string", "examples": ["500GB", "500GB..2TB"]}),
]

EnvironmentKind = Literal["development", "staging", "production"]

NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$"
"""Names end up in host names, bucket names, roles and paths: the strictest of these decides."""

VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"


class Model(BaseModel):
    """Base of all: frozen, unknown keys refused, attribute docstrings are the descriptions."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True
    )


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Line = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$")]
"""One line of text: no control characters, so that no value can add a line to a configuration file."""
UrlPath = Annotated[str, Field(max_length=1024, pattern=r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$")]
HostName = Annotated[
    str,
    Field(
        max_length=253, pattern=r"^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
    ),
]
_PART = r"(\.|\.?[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*|\.\.[^/\x00-\x1f\x7f]+)"
"""A name in a path that is not `..`, written without look-ahead: the schema's expressions have none."""
RelativePath = Annotated[str, Field(max_length=1024, pattern=rf"^{_PART}(/+{_PART})*/*$")]
"""A path inside the project: not absolute and without `..`."""
Port = Annotated[int, Field(ge=1024, le=65535)]
Variable = Annotated[str, Field(pattern=VARIABLE_PATTERN)]
Text = Annotated[str, Field(max_length=65536, pattern=r"^[^\x00]*$")]


class SecretFromEnvironment(Model):
    """A secret taken from a variable of the shell that runs asbuilt."""

    env: Variable
    """Name of the variable."""


class SecretFromFile(Model):
    """A secret read from a file, without its last line break."""

    file: Line
    """Path of the file, relative to asbuilt.yaml or absolute. Keep it out of git."""


class SecretFromCommand(Model):
    """A secret that a command prints, for password managers and vaults."""

    command: list[Line]
    """The command as a list of words; it runs without a shell in the folder of asbuilt.yaml."""


SecretReference = SecretFromEnvironment | SecretFromFile | SecretFromCommand


class App(Model):
    """The web application and the servers that run it."""

    command: Line | list[Line]
    """How one instance is started. A line is split into words as a shell would, `$PORT`, `$HOST` and every
    other variable of the app are filled in, but there is no shell: no `&&`, no pipes. The app must listen
    on `$PORT`."""
    directory: RelativePath = "."
    """Folder of the app, relative to asbuilt.yaml."""
    build: Literal["pip", "npm", "none"] = "none"
    """How an immutable release is made from the folder: `pip` installs requirements.txt or pyproject.toml into
    a virtual environment of the release, `npm` runs `npm ci` (or `npm install` without a lock file), `none`
    takes the files as they are."""
    python: Line | None = None
    """Python interpreter for `build: pip`; by default the one that runs asbuilt."""
    node: Annotated[str, Field(pattern=r"^\d{1,3}$")] | None = None
    """Major version of Node.js that the app needs, like "22"; by default the `node` on the PATH."""
    migrate: Line | list[Line] | None = None
    """Run once for each release, against the primary, before the release takes traffic."""
    health: UrlPath = "/health"
    """Path that answers 2xx or 3xx while an instance can serve."""
    instances: CountField
    """App servers: a number, or a range for auto-scaling; the least number is started."""
    cpu: Annotated[float, Field(gt=0, le=1024)]
    """CPU cores for each instance, at most."""
    memory: SizeField
    """Memory for each instance, at most."""
    disk: SizeField
    """Storage for each instance's own files."""
    start_timeout: DurationField = Duration(60)
    """How long an instance may take until its health path answers."""
    drain_timeout: DurationField = Duration(30)
    """How long requests under way may take when an instance is stopped; then it gets SIGTERM."""
    stop_timeout: DurationField = Duration(10)
    """From SIGTERM to SIGKILL."""
    reload: bool = False
    """Run from the working tree and restart when a file changes: for development."""
    env: dict[Variable, Text] = Field(default_factory=dict)
    """Environment variables for the app; no secrets here."""
    secrets: dict[Variable, SecretReference] = Field(default_factory=dict)
    """Secret environment variables, each by reference: `{env: NAME}`, `{file: PATH}` or `{command: [WORDS]}`."""


class HealthCheck(Model):
    """How the load balancer asks an app server whether it can serve."""

    path: UrlPath | None = None
    """Path to GET; by default the app's `health`."""
    interval: DurationField
    """Between two checks of a healthy server. Failures are found at once by passive detection, and then
    checked every `fast_interval`."""
    fast_interval: DurationField = Duration(0.5)
    """Between two checks of a server that just changed or failed a request."""
    timeout: DurationField = Duration(5)
    """How long an answer may take."""


class LoadBalancer(Model):
    """The load balancer: layer 7, TLS, health checks."""

    connections: Annotated[int, Field(ge=100, le=1_000_000)]
    """Concurrent connections it must hold."""
    health_check: HealthCheck
    """Active health check."""
    tls: Literal["1.3"] = "1.3"
    """Lowest TLS version: older ones are refused."""
    domains: list[HostName] = Field(default_factory=list)
    """Names in its certificate, beside localhost and its addresses."""
    address: Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,3}){3}$")] = "127.0.0.1"
    """Address of the public entry points. 127.0.0.1 keeps them on this machine; 0.0.0.0 opens them."""
    https_port: Port | None = None
    """Port for HTTPS; by default 8443, or the next free one."""
    http_port: Port | None = None
    """Port for HTTP, which only redirects to HTTPS; by default 8080, or the next free one."""


class Backup(Model):
    """When the database is backed up and how long a backup is kept."""

    schedule: Literal["daily"] = "daily"
    """When a full backup is taken."""
    retention: DurationField = Duration(30 * 86400)
    """How long a backup is kept."""


class Database(Model):
    """PostgreSQL: one primary and its replicas."""

    version: Annotated[int, Field(ge=16, le=16)] = 16
    """Major version of PostgreSQL."""
    replicas: Annotated[int, Field(ge=0, le=8)]
    """Read replicas beside the primary. With two or more, commits are synchronous and failover is automatic."""
    storage: SizeRangeField
    """Storage at first, and what it may grow to."""
    memory: SizeField = Size(2**30)
    """Memory for each database server, at most."""
    max_connections: Annotated[int, Field(ge=20, le=5000)] = 200
    """Connections each server takes."""
    max_replica_lag: SizeField = Size(16 * 2**20)
    """A replica that is further behind gets no reads."""
    without_consensus: Literal["continue", "stop"] = "continue"
    """What the primary does while the consensus store is down: `continue` writing as long as it reaches every
    other member, or `stop` (reads go on)."""
    backup: Backup | None = None
    """Backups. Not supported yet: accepted and shown, not acted on."""


class Cache(Model):
    """Redis: one primary and its replicas, watched by Sentinel."""

    version: Annotated[int, Field(ge=7, le=7)] = 7
    """Major version of the Redis protocol."""
    replicas: Annotated[int, Field(ge=0, le=8)]
    """Replicas beside the primary."""
    memory: SizeField
    """Memory for the data of each node."""
    eviction: Literal["lru", "lfu", "none"] = "lru"
    """What goes when the memory is full: the least recently used, the least frequently used, or nothing."""


class Objects(Model):
    """Object storage with the S3 interface."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$")] | None = None
    """Name of the app's bucket; by default NAME-ENVIRONMENT."""
    storage: SizeField = Size(100 * 2**30)
    """Storage for objects, at most."""


class Files(Model):
    """A folder that all app servers share, in `FILES_DIR`."""

    storage: SizeField = Size(100 * 2**30)
    """Storage for files, at most."""


class EngineChoice(Model):
    """Where an engine's programs are, for owners who bring their own."""

    path: Line
    """Folder that holds the engine's programs."""


class Engines(Model):
    """Programs to use instead of the ones asbuilt finds by itself."""

    haproxy: EngineChoice | None = None
    """HAProxy 2.8 or newer."""
    postgresql: EngineChoice | None = None
    """PostgreSQL of the database's version: initdb, postgres, pg_basebackup, pg_rewind, psql."""
    redis: EngineChoice | None = None
    """redis-server 7 or valkey-server."""
    etcd: EngineChoice | None = None
    """etcd 3.4 or newer."""
    seaweedfs: EngineChoice | None = None
    """weed."""


class Environment(Model):
    """One environment, with the preset of its kind, the shared part of the file and its own part put together."""

    kind: EnvironmentKind
    """Which preset it starts from; by default the environment's own name."""
    target: Literal["local", "kubernetes", "aws"] = "local"
    """Where it runs. Not supported yet: kubernetes, aws."""
    network: Literal["open", "isolated"] = "open"
    """`open`: loopback addresses, no root needed. Not supported yet: `isolated`."""
    app: App
    """The application."""
    load_balancer: LoadBalancer | None
    """The load balancer; none in development."""
    database: Database | None
    """The database; `none` leaves it out."""
    cache: Cache | None
    """The cache; `none` leaves it out."""
    objects: Objects | None
    """Object storage; `none` leaves it out."""
    files: Files | None
    """File storage; `none` leaves it out."""
    engines: Engines = Engines()
    """Programs to use instead of the ones asbuilt finds."""


class Spec(Model):
    """A whole asbuilt.yaml: the name and every environment, complete."""

    name: Name
    """Name of the system: small letters, digits and dashes, at most 32."""
    environments: dict[Name, Environment]
    """The environments by name. Any of the blocks above the environments (app, database, ...) is shared by all
    of them, and can be overridden in each."""
