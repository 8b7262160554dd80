"""The typed shape of asbuilt.yaml. The docstrings here are the reference manual and the editors' help.

Invariant: past `load` nobody sees a dictionary. Unknown keys are refused. Every number of the source
document is a default in `presets`, not here, so that one place holds each.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from asbuilt.spec.fields import (
    IPV4,
    CountField,
    DurationField,
    HostName,
    Line,
    Model,
    Name,
    NoneWord,
    PercentField,
    Port,
    RelativePath,
    SizeField,
    SizeRangeField,
    Text,
    TimerField,
    UrlPath,
    Variable,
    at_least,
)
from asbuilt.values.units import Count, Duration, Percent, Size

EnvironmentKind = Literal["development", "staging", "production"]


class SecretFromEnvironment(Model):
    """A secret taken from a variable of the shell that runs asbuilt."""

    env: Variable
    """Name of the variable."""


class SecretFromFile(Model):
    """A secret read from a file, without its last line break."""

    file: Annotated[Line, Field(min_length=1)]
    """Path of the file, relative to asbuilt.yaml or absolute. Keep it out of git."""


class SecretFromCommand(Model):
    """A secret that a command prints, for password managers and vaults."""

    command: Annotated[list[Line], Field(min_length=1)]
    """The command as a list of words; it runs without a shell in the folder of asbuilt.yaml."""


def _reference_tag(value: Any) -> str | None:  # noqa: ANN401 - the raw value of the file, whatever it is
    if isinstance(value, dict):
        ways = [way for way in ("env", "file", "command") if way in value]
        return f"<{ways[0]}>" if len(ways) == 1 else None
    kinds: dict[type, str] = {
        SecretFromEnvironment: "<env>",
        SecretFromFile: "<file>",
        SecretFromCommand: "<command>",
    }
    return kinds.get(type(value))


SecretReference = Annotated[
    Annotated[SecretFromEnvironment, Tag("<env>")]
    | Annotated[SecretFromFile, Tag("<file>")]
    | Annotated[SecretFromCommand, Tag("<command>")],
    Discriminator(_reference_tag),
]


def _command_tag(value: Any) -> str | None:  # noqa: ANN401 - the raw value of the file, whatever it is
    if isinstance(value, (list, tuple)):
        return "<words>"
    return None if isinstance(value, dict) else "<line>"


CommandLine = Annotated[
    Annotated[Line, Tag("<line>")] | Annotated[list[Line], Tag("<words>")], Discriminator(_command_tag)
]
"""A line, or a list of words."""


def _some_servers(count: Count) -> Count:
    if not 1 <= count.minimum <= count.maximum <= MAX_INSTANCES:
        raise ValueError(f"between 1 and {MAX_INSTANCES} app servers")
    return count


MAX_INSTANCES = 200
"""Each app server has a number of its own in the last byte of its address."""


def _reachable(share: Percent) -> Percent:
    if not 0.1 <= share.share <= 0.95:  # noqa: PLR2004 - said in the message
        raise ValueError("between 10% and 95%: beyond, servers are idle or have no room")
    return share


class Scaling(Model):
    """What decides about the number of app servers, where `instances` is a range."""

    cpu: Annotated[PercentField, AfterValidator(_reachable)] = Percent(70)
    """Part of its `cpu` that a server should use, in the mean."""
    in_flight: Annotated[Annotated[float, Field(gt=0, le=100_000)] | None, NoneWord] = None
    """Requests that one server should work on at a time; by default learned from the CPU that they need. For
    an app that waits more than it computes, give its workers or threads, less a reserve."""
    latency: Annotated[TimerField | None, NoneWord] = None
    """Time in which 95 of 100 requests should be answered. Slower answers add servers only while those there
    are have work: more of them do not help a slow database."""
    down_after: TimerField = Duration(120)
    """How long fewer servers must have been enough before one is removed."""


class App(Model):
    """The web application and the servers that run it."""

    command: CommandLine
    """How one instance is started. A line is split into words as a shell would, `$PORT`, `$HOST` and every
    other variable of the app are filled in, but there is no shell: no `&&`, no pipes. The app must listen
    on `$PORT`."""
    directory: RelativePath = "."
    """Folder of the app, relative to asbuilt.yaml."""
    build: Literal["pip", "npm", "none"] = "none"
    """How an immutable release is made from the folder: `pip` installs requirements.txt or
    pyproject.toml into a virtual environment of the release, `npm` runs `npm ci` (or `npm install` without a
    lock file) and the script `build` of package.json, `none` takes the files as they are."""
    python: Annotated[Line | None, NoneWord] = None
    """Python interpreter for `build: pip`; by default the one that runs asbuilt."""
    node: Annotated[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,2}$")] | None, NoneWord] = None
    """Major version of Node.js that the app needs, like "22"; by default the `node` on the PATH."""
    migrate: Annotated[CommandLine | None, NoneWord] = None
    """Run once for each release, against the primary, before the release takes traffic."""
    health: UrlPath = "/health"
    """Path that answers 2xx or 3xx while an instance can serve."""
    instances: Annotated[CountField, AfterValidator(_some_servers)]
    """App servers: a number, or a range for auto-scaling; the least number is started."""
    scaling: Scaling = Scaling()
    """What decides about their number within the range."""
    cpu: Annotated[float, Field(gt=0, le=1024)]
    """CPU cores for each instance, at most."""
    memory: Annotated[SizeField, at_least("16MB")]
    """Memory for each instance, at most."""
    disk: Annotated[SizeField, at_least("1MB")]
    """Storage for each instance's own files."""
    start_timeout: TimerField = Duration(60)
    """How long an instance may take until its health path answers."""
    drain_timeout: TimerField = Duration(30)
    """How long requests under way may take when an instance is stopped; then it gets SIGTERM."""
    stop_timeout: TimerField = Duration(10)
    """From SIGTERM to SIGKILL."""
    reload: bool = False
    """Run from the working tree and restart when a file changes: for development."""
    env: dict[Variable, Text] = Field(default_factory=dict)
    """Environment variables for the app; no secrets here."""
    secrets: dict[Variable, SecretReference] = Field(default_factory=dict)
    """Secret environment variables, by reference: `{env: NAME}`, `{file: PATH}` or `{command: [WORDS]}`."""


def _growing(steps: list[float]) -> list[float]:
    if sorted(set(steps)) != steps:
        raise ValueError("each step must be larger than the one before")
    return steps


class Metric(Model):
    """A counter that the app shows, compared between releases for each of their requests."""

    counter: Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]{0,127}$")]
    """Its name in the page; the sum over its labels is taken."""
    path: UrlPath = "/metrics"
    """Where each app server shows it, in Prometheus' text format."""
    worse: Literal["lower", "higher"] = "lower"
    """`lower` for what should happen (orders), `higher` for what should not (refused payments)."""
    factor: Annotated[float, Field(ge=1, le=100)] = 1.25
    """How many times fewer, or more, still pass."""


class Rollout(Model):
    """How a new release reaches the users: what `deploy` does unless it is told otherwise."""

    strategy: Literal["rolling", "blue-green", "canary"] = "rolling"
    """`rolling` replaces one app server after the other, `blue-green` starts all new ones beside the old ones
    and moves all traffic at once, `canary` moves a growing part of the users and compares."""
    surge: bool = True
    """`rolling`: start one server more first, so that none is missing while they are replaced."""
    smoke: Annotated[list[UrlPath], Field(max_length=50)] = Field(default_factory=list)
    """Paths that each new server must answer with 2xx or 3xx before it gets traffic, beside `health`.
    `blue-green` and `canary`."""
    steps: Annotated[
        list[Annotated[float, Field(ge=0.01, lt=100)]], Field(max_length=20), AfterValidator(_growing)
    ] = Field(default_factory=lambda: [10.0, 50.0])
    """`canary`: percent of the users at each step; the whole is the last step by itself."""
    step_time: TimerField = Duration(30)
    """`canary`: the least time at each step."""
    patience: TimerField = Duration(600)
    """`canary`: how long to wait at a step while there is not enough evidence."""
    without_evidence: Literal["proceed", "back", "hold"] = "proceed"
    """`canary`: what happens when patience ends without enough evidence: go on, go back, or stay at the step
    until `asbuilt deploy --promote` or `--abort`."""
    error_limit: Annotated[float, Field(gt=0, lt=100)] | None = None
    """Percent of the new release's requests that may fail, whatever the old one does. By default only the two
    are compared."""
    time_limit: TimerField | None = None
    """What 95 of 100 requests of the new release must stay below. By default only the two are compared."""
    metrics: Annotated[dict[Name, Metric], Field(max_length=10)] = Field(default_factory=dict)
    """What else is compared, by a name of your choice: orders, sign-ups, refused payments."""
    warm: DurationField = Duration(600)
    """`blue-green`: how long the servers of the release before stay ready, without traffic, so that going
    back takes no start."""


class HealthCheck(Model):
    """How the load balancer asks an app server whether it can serve."""

    path: UrlPath | None = None
    """Path to GET; by default the app's `health`."""
    interval: TimerField
    """Between two checks of a healthy server. Failures are found at once by passive detection, and then
    checked every `fast_interval`."""
    fast_interval: TimerField = Duration(0.5)
    """Between two checks of a server that just changed or failed a request."""
    timeout: TimerField = Duration(5)
    """How long an answer may take."""


class LoadBalancer(Model):
    """The load balancer: layer 7, TLS, health checks."""

    connections: Annotated[int, Field(ge=100, le=1_000_000)]
    """Concurrent connections it must hold."""
    health_check: HealthCheck
    """Active health check."""
    tls: Literal["1.3"] = "1.3"
    """Lowest TLS version: older ones are refused."""
    domains: Annotated[list[HostName], Field(max_length=100)] = Field(default_factory=list)
    """Names in its certificate, beside localhost and its addresses."""
    address: Annotated[str, Field(pattern=IPV4)] = "127.0.0.1"
    """Address of the public entry points. 127.0.0.1 keeps them on this machine; 0.0.0.0 opens them."""
    https_port: Annotated[Port | None, NoneWord] = None
    """Port for HTTPS; by default 8443, or the next free one."""
    http_port: Annotated[Port | None, NoneWord] = None
    """Port for HTTP, which only redirects to HTTPS; by default 8080, or the next free one."""


class BackupStore(Model):
    """A bucket of any S3 service, so that backups do not share the fate of this machine."""

    endpoint: Annotated[str, Field(max_length=1024, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$")]
    """Address of the service, like https://s3.eu-central-1.amazonaws.com."""
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    """Name of the bucket; it must be there."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = "us-east-1"
    """Region of the bucket."""
    access_key: SecretReference
    """Access key, by reference. It must be allowed to list, read, write and delete."""
    secret_key: SecretReference
    """Secret key, by reference."""
    locked: bool = False
    """The bucket has an object lock with a default retention: objects are sent with the checksums that such a
    bucket asks for. What it does not let go is kept and told of."""


class Backup(Model):
    """When the environment's data is backed up, what is kept, and where."""

    schedule: Literal["hourly", "daily"] = "daily"
    """When a full backup is taken; the write-ahead log is archived all the time."""
    leave_out: Annotated[list[Literal["cache", "objects", "files"]], Field(max_length=3)] = Field(
        default_factory=list
    )
    """What is not backed up with the database. By default all that there is."""
    retention: DurationField = Duration(30 * 86400)
    """How long every backup is kept, and how far back any moment can be restored."""
    long_term: Annotated[DurationField | None, NoneWord] = Duration(365 * 86400)
    """How long the first backup of each month is kept."""
    store: Annotated[BackupStore | None, NoneWord] = None
    """Where backups are kept. By default a bucket of the environment's own object storage: then the loss of
    this machine is the loss of the backups too."""
    folder: Annotated[Line | None, NoneWord] = None
    """A folder in the place of a bucket, like that of a mounted network drive."""
    recipients: Annotated[
        list[Annotated[str, Field(pattern=r"^age1[02-9ac-hj-np-z]{58}$")]], Field(max_length=20)
    ] = Field(default_factory=list)
    """Public keys (age) that can open the backups, beside the key that asbuilt makes for itself. Without one
    of yours, save what `asbuilt backup ENV key` prints: a lost machine takes its own key along."""
    verify: bool = True
    """Try every backup once it is taken: that of the database is restored beside it, the dump of the cache is
    read by the engine's own check, and pieces of files and objects are read back."""

    @model_validator(mode="after")
    def _one_place(self) -> Backup:
        if self.store is not None and self.folder is not None:
            raise ValueError("a backup has one place: store or folder, not both")
        return self


class Database(Model):
    """PostgreSQL: one primary and its replicas."""

    version: Annotated[int, Field(ge=16, le=16)] = 16
    """Major version of PostgreSQL."""
    replicas: Annotated[int, Field(ge=0, le=8)]
    """Read replicas beside the primary. With two or more, commits are synchronous, failover automatic."""
    storage: SizeRangeField
    """Storage at first, and what it may grow to."""
    memory: Annotated[SizeField, at_least("64MB")] = Size(2**30)
    """Memory for each database server, at most."""
    max_connections: Annotated[int, Field(ge=20, le=5000)] = 200
    """Connections each server takes."""
    max_replica_lag: SizeField = Size(16 * 2**20)
    """A replica that is further behind gets no reads."""
    without_consensus: Literal["continue", "stop"] = "continue"
    """What the primary does while the consensus store is down: `continue` writing as long as it reaches every
    other member, or `stop` (reads go on)."""
    backup: Annotated[Backup | None, NoneWord] = None
    """Backups; `none` leaves them out."""


class Cache(Model):
    """Redis: one primary and its replicas, watched by Sentinel."""

    version: Annotated[int, Field(ge=7, le=7)] = 7
    """Major version of the Redis protocol."""
    replicas: Annotated[int, Field(ge=0, le=8)]
    """Replicas beside the primary."""
    memory: Annotated[SizeField, at_least("1MB")]
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

    path: Annotated[Line, Field(min_length=1)]
    """Folder that holds the engine's programs."""


class Engines(Model):
    """Programs to use instead of the ones asbuilt finds by itself."""

    haproxy: Annotated[EngineChoice | None, NoneWord] = None
    """HAProxy 2.8 or newer."""
    postgresql: Annotated[EngineChoice | None, NoneWord] = None
    """PostgreSQL of the database's version: initdb, postgres, pg_basebackup, pg_rewind, psql."""
    redis: Annotated[EngineChoice | None, NoneWord] = None
    """redis-server 7 or valkey-server."""
    etcd: Annotated[EngineChoice | None, NoneWord] = None
    """etcd 3.4 or newer."""
    seaweedfs: Annotated[EngineChoice | None, NoneWord] = None
    """weed."""


class Environment(Model):
    """One environment: the preset of its kind, the shared part of the file and its own part put together."""

    kind: EnvironmentKind
    """Which preset it starts from; by default the environment's own name."""
    target: Literal["local", "kubernetes", "aws"] = "local"
    """Where it runs. Not supported yet: kubernetes, aws."""
    network: Literal["open", "isolated"] = "open"
    """`open`: loopback addresses, no root needed. Not supported yet: `isolated`."""
    app: App
    """The application."""
    rollout: Rollout = Rollout()
    """How its releases reach the users."""
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
    """The environments by name. Any of the blocks above the environments (app, database, ...) is shared by
    all of them, and can be overridden in each."""
