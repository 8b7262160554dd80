"""Talks to the running store, through its JSON gateway and with the store's client certificate."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asbuilt.engines.etcd.config import build_client_tls, encode
from asbuilt.plan.workload import ClientTls
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from asbuilt.plan.site import Site

_OK = 200


@dataclass(frozen=True, slots=True)
class Store:
    """One store, as its clients reach it. `timeout` in seconds for each request."""

    host: str
    port: int
    tls: ClientTls
    timeout: float = 5.0

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST `body` to the gateway. Raises AsbuiltError ETCD-001 when the store does not take it."""
        try:
            context = ssl.create_default_context(cafile=self.tls.ca)
            context.load_cert_chain(self.tls.certificate, self.tls.key)
            line = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=context)
            try:
                line.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
                answer = line.getresponse()
                said = answer.read()
            finally:
                line.close()
            if answer.status != _OK:
                raise self._refused(f"status {answer.status}")
            found: dict[str, Any] = json.loads(said)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._refused(str(error)) from None
        return found

    def read(self, prefix: str) -> dict[str, str]:
        """Every key that starts with `prefix`, and its value."""
        found = self.ask("/v3/kv/range", {"key": encode(prefix), "range_end": encode(_end_of(prefix))})
        return {_decode(one["key"]): _decode(one.get("value", "")) for one in found.get("kvs", [])}

    def put(self, key: str, value: str) -> None:
        """Write one key."""
        self.ask("/v3/kv/put", {"key": encode(key), "value": encode(value)})

    def forget(self, prefix: str) -> None:
        """Remove every key that starts with `prefix`."""
        self.ask("/v3/kv/deleterange", {"key": encode(prefix), "range_end": encode(_end_of(prefix))})

    def transact(self, body: dict[str, Any]) -> bool:
        """Run a transaction of `config`; whether its comparison held."""
        return bool(self.ask("/v3/kv/txn", body).get("succeeded"))

    def _refused(self, why: str) -> AsbuiltError:
        return AsbuiltError(
            "ETCD-001",
            f"the consensus store does not answer: {why}",
            where=f"{self.host}:{self.port}",
            hint="asbuilt logs --node consensus-1 says why",
        )


def open_store(site: Site, node: str) -> Store:
    """The store that `node` runs."""
    return Store(site.addresses[node], site.ports["etcd"], build_client_tls(site, node))


def _end_of(prefix: str) -> str:
    """The first key after all that start with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _decode(text: str) -> str:
    return base64.b64decode(text).decode(errors="replace")
