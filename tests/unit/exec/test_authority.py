from __future__ import annotations

import socket
import ssl
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from asbuilt.exec.authority import Authority, Issued
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from pathlib import Path


def _greet(issued: Issued, *, name: str, trusted: Path | None = None, mutual: bool = False) -> bytes:
    """What a client reads from a TLS server that shows the certificate, both sides checking."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(issued.pem)
    client = ssl.create_default_context(cafile=trusted or issued.authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    if mutual:
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(issued.authority)
        client.load_cert_chain(issued.certificate, issued.key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            raw, _ = listening.accept()
            with raw:
                try:
                    with server.wrap_socket(raw, server_side=True) as stream:
                        stream.sendall(b"hello")
                except OSError:
                    return  # the client refused: that is what some tests are about

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listening.getsockname(), timeout=5) as raw,
                client.wrap_socket(raw, server_hostname=name) as stream,
            ):
                return stream.recv(5)
        finally:
            thread.join(5)


def test_a_client_that_trusts_the_authority_accepts_names_and_addresses(tmp_path: Path) -> None:
    issued = Authority(tmp_path / "ca").issue(
        tmp_path / "out", "public", dns=("localhost", "*.shop.example"), addresses=("127.0.0.1",)
    )
    assert _greet(issued, name="localhost") == b"hello"
    assert _greet(issued, name="a.shop.example") == b"hello"
    assert _greet(issued, name="127.0.0.1", mutual=True) == b"hello"
    with pytest.raises(ssl.SSLCertVerificationError):
        _greet(issued, name="other.example")


def test_another_authority_is_not_trusted(tmp_path: Path) -> None:
    issued = Authority(tmp_path / "one").issue(tmp_path / "out", "a", dns=("localhost",))
    with pytest.raises(ssl.SSLCertVerificationError):
        _greet(issued, name="localhost", trusted=Authority(tmp_path / "two").ensure())


def test_openssl_verifies_it_strictly_for_both_purposes(tmp_path: Path) -> None:
    issued = Authority(tmp_path / "ca").issue(
        tmp_path, "db-1", dns=("localhost",), addresses=("127.215.3.1",)
    )
    for purpose in ("sslserver", "sslclient"):
        argv = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(issued.authority)]
        done = subprocess.run([*argv, str(issued.certificate)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_keys_are_private(tmp_path: Path) -> None:
    issued = Authority(tmp_path / "ca").issue(tmp_path / "out", "a", dns=("localhost",))
    for path in (issued.key, issued.pem, tmp_path / "ca" / "ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_kept_while_it_fits_and_replaced_when_it_does_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    issued = authority.issue(tmp_path / "out", "a", dns=("localhost",))
    first = issued.pem.read_bytes()
    authority.issue(tmp_path / "out", "a", dns=("localhost",))
    assert issued.pem.read_bytes() == first
    assert authority.fits(tmp_path / "out", "a", dns=("localhost",))
    assert not authority.fits(tmp_path / "out", "a", dns=("localhost", "shop.example"))
    authority.issue(tmp_path / "out", "a", dns=("localhost", "shop.example"))
    assert issued.pem.read_bytes() != first


def test_half_written_files_of_a_killed_process_are_replaced(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    issued = authority.issue(tmp_path / "out", "a", dns=("localhost",))
    issued.pem.write_bytes(issued.pem.read_bytes()[:100])
    assert not authority.fits(tmp_path / "out", "a", dns=("localhost",))
    authority.issue(tmp_path / "out", "a", dns=("localhost",))
    assert _greet(issued, name="localhost") == b"hello"


def test_a_damaged_authority_is_an_error_with_a_hint(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.ensure()
    (tmp_path / "ca.key").write_text("nothing")
    with pytest.raises(AsbuiltError) as caught:
        authority.issue(tmp_path, "a", dns=("localhost",))
    assert caught.value.code == "TLS-001"
    assert caught.value.hint


def test_many_at_once_make_one_authority(tmp_path: Path) -> None:
    def make(number: int) -> Issued:
        return Authority(tmp_path / "ca").issue(tmp_path / "out", f"n-{number % 2}", dns=("localhost",))

    with ThreadPoolExecutor(8) as pool:
        issued = list(pool.map(make, range(16)))
    assert {_greet(one, name="localhost") for one in issued} == {b"hello"}
