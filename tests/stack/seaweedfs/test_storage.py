from __future__ import annotations

import random
import subprocess
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from asbuilt.engines.seaweedfs.admin import Gateway
from asbuilt.engines.seaweedfs.engine import BUCKET, CERTIFICATES, SeaweedfsEngine, build_gateway
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.graph.services import SERVICES
from asbuilt.plan.site import Entry, Site
from asbuilt.values.secret import Secret
from support import until
from support.database import ask
from support.specs import spec_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack
HOST = "127.221.6.1"


class Storage:
    """Object storage of one production environment, started from its workloads."""

    def __init__(self, root: Path, host: str) -> None:
        self.host = host
        self.runner = Runner(find_identity())
        architecture = build(spec_of(production={"objects": {"storage": "2GB"}}), "production")
        engine = SeaweedfsEngine()
        tools = {"seaweedfs": engine.find(architecture, self.runner)}
        node = architecture.of(next(iter(engine.kinds)))[0].id
        self.site = Site(
            root=root,
            project=root,
            addresses={node: host},
            ports={name: service.port for name, service in SERVICES.items()},
            entry=Entry("127.0.0.1", None, None),
            tools=tools,
            secret=lambda name: Secret(name.replace(".", "") * 3),
            release=None,
            app_secrets={},
            cpus=2,
            memory=8 * 2**30,
        )
        self.node = node
        made = engine.realize(architecture, self.site, self.runner)
        self.workloads = {one.id: one for one in made.workloads}
        self.setups = {one.id: one for one in made.setups}
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.setups[CERTIFICATES].run()
        waiting = dict(self.workloads)
        ready: set[str] = set()
        while waiting:
            for one in [w for w in waiting.values() if set(w.needs) <= ready | {CERTIFICATES}]:
                for folder in one.directories:
                    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
                for file in one.files:
                    Path(file.path).touch(mode=file.mode)
                    Path(file.path).write_text(file.content)
                log = (self.site.root / f"{one.id}.log").open("ab")
                env = {**dict(one.env), **{name: value.reveal() for name, value in one.secret_env}}
                argv = self.runner.identity.wrap(one.argv)
                self.running.append(
                    subprocess.Popen(
                        argv, cwd=one.cwd, env=env, stdout=log, stderr=log, start_new_session=True
                    )
                )
                log.close()
                exchange = one.ready.exchange
                assert exchange is not None
                until(partial(ask, exchange), what=f"{one.id} ready")
                ready.add(one.id)
                del waiting[one.id]

    def stop(self) -> None:
        for process in reversed(self.running):
            process.kill()
            process.wait()
        self.running.clear()

    def client(self, *, admin: bool = False) -> Any:  # noqa: ANN401 - boto3 has no types
        gateway = build_gateway(self.site, self.node, admin=admin)
        return boto3.client(
            "s3",
            endpoint_url=f"http://{self.host}:{gateway.port}",
            aws_access_key_id=gateway.access.reveal(),
            aws_secret_access_key=gateway.secret.reveal(),
            region_name=gateway.region,
            config=Config(retries={"total_max_attempts": 2}),
        )


@pytest.fixture(scope="module")
def storage(module_home: Path) -> Iterator[Storage]:
    made = Storage(module_home, HOST)
    try:
        made.start()
        made.setups[BUCKET].run()
        yield made
    finally:
        made.stop()


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_bucket_setup_is_idempotent_and_satisfied(storage: Storage) -> None:
    assert storage.setups[BUCKET].satisfied()
    storage.setups[BUCKET].run()
    assert storage.setups[BUCKET].satisfied()


def test_app_key_works_in_its_own_bucket_only(storage: Storage) -> None:
    app, admin = storage.client(), storage.client(admin=True)
    admin.create_bucket(Bucket="other")
    admin.put_object(Bucket="other", Key="k", Body=b"theirs")
    app.put_object(Bucket="shop-production", Key="a b/é", Body=b"mine")
    assert app.get_object(Bucket="shop-production", Key="a b/é")["Body"].read() == b"mine"
    assert [o["Key"] for o in app.list_objects_v2(Bucket="shop-production")["Contents"]] == ["a b/é"]
    app.delete_object(Bucket="shop-production", Key="a b/é")
    attempts: tuple[tuple[str, dict[str, Any]], ...] = (
        ("get_object", {"Bucket": "other", "Key": "k"}),
        ("put_object", {"Bucket": "other", "Key": "k2", "Body": b"x"}),
        ("list_objects_v2", {"Bucket": "other"}),
        ("create_bucket", {"Bucket": "third"}),
        ("delete_bucket", {"Bucket": "shop-production"}),
    )
    for method, values in attempts:
        with pytest.raises(ClientError) as refused:
            getattr(app, method)(**values)
        assert refused.value.response["Error"]["Code"] == "AccessDenied"


def test_every_object_is_encrypted_on_the_disk(storage: Storage) -> None:
    app, admin = storage.client(), storage.client(admin=True)
    clear, hidden = random.randbytes(20_000), random.randbytes(20_000)  # random: else it is compressed
    admin.create_bucket(Bucket="clear")
    admin.put_object(Bucket="clear", Key="clear", Body=clear)
    app.put_object(Bucket="shop-production", Key="secret", Body=hidden)
    answer = app.get_object(Bucket="shop-production", Key="secret")
    assert (answer["ServerSideEncryption"], answer["Body"].read()) == ("AES256", hidden)
    data = storage.site.node_dir(storage.node) / "data" / "volume"
    stored = b"".join(path.read_bytes() for path in data.glob("*.dat"))
    assert clear in stored, "the check looks at the right place"
    assert hidden not in stored


def test_nobody_gets_past_the_s3_port(storage: Storage) -> None:
    storage.client().put_object(Bucket="shop-production", Key="k", Body=b"x")
    ports = storage.site.ports
    assert status(f"http://{HOST}:{ports['s3']}/shop-production/k") == 403
    assert status(f"http://{HOST}:{ports['seaweedfs-master']}/dir/assign") == 404
    assert status(f"http://{HOST}:{ports['seaweedfs-filer']}/buckets/shop-production/k") in {401, 404}
    for volume in (1, 2, 3):
        assert status(f"http://{HOST}:{ports['seaweedfs-volume']}/{volume},0100000000") == 401
    wrong = Gateway(HOST, ports["s3"], "us-east-1", storage.site.secret("objects.app.access"), Secret("x"))
    assert wrong.ask("GET", "/shop-production/k")[0] == 403


def test_it_leaves_no_socket_in_the_shared_temporary_folder(storage: Storage) -> None:
    assert storage.workloads
    assert not list(Path("/tmp").glob("seaweedfs-*-grpc-*.sock"))  # noqa: S108 - where they would be


def test_objects_survive_sigkill_of_everything(storage: Storage) -> None:
    storage.client().put_object(Bucket="shop-production", Key="kept", Body=b"kept")
    storage.stop()
    storage.start()
    read = until(lambda: _read(storage), what="the object after the restart")
    assert read == b"kept"


def test_objects_survive_a_move_to_other_addresses(home: Path) -> None:
    for number, host in enumerate(("127.221.6.2", "127.221.6.3", "127.221.6.2")):
        moved = Storage(home, host)
        try:
            moved.start()
            moved.setups[BUCKET].run()
            client = moved.client()
            client.put_object(Bucket="shop-production", Key=f"at {number}", Body=host.encode() * 9)
            for before in range(number + 1):
                assert client.get_object(Bucket="shop-production", Key=f"at {before}")["Body"].read()
        finally:
            moved.stop()


def _read(storage: Storage) -> bytes:
    try:
        return bytes(storage.client().get_object(Bucket="shop-production", Key="kept")["Body"].read())
    except ClientError:
        return b""
