"""The environment's own certificate authority: every certificate that its nodes show is issued here.

Invariant: a reader never sees half a file, one process at a time issues, and what a killed process left half
done is noticed by `fits` and issued again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import ipaddress
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterator

_AUTHORITY_LIFE = dt.timedelta(days=3650)
_CERTIFICATE_LIFE = dt.timedelta(days=397)
"""What browsers take at most."""
_RENEW_BEFORE = dt.timedelta(days=30)
_BACKDATED = dt.timedelta(hours=1)
"""Clocks differ a little; a certificate that is not valid yet is as bad as none."""


@dataclass(frozen=True, slots=True)
class Issued:
    """Where one certificate's files are: chain, key, both together, and the authority to trust."""

    certificate: Path
    key: Path
    pem: Path
    authority: Path

    @classmethod
    def in_folder(cls, folder: Path, name: str) -> Issued:
        """The files of one name in one folder, whether they are there or not."""
        certificate, key, pem = (folder / f"{name}.{end}" for end in ("crt", "key", "pem"))
        return cls(certificate, key, pem, folder / "ca.crt")


@dataclass(frozen=True, slots=True)
class Authority:
    """A local authority that lives in `folder` as `ca.crt` and `ca.key` (0600)."""

    folder: Path

    def ensure(self) -> Path:
        """Make the authority unless it is there. Returns the path of `ca.crt`.

        Raises AsbuiltError TLS-001 when what is there cannot be used.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate = self.folder / "ca.crt"
        with _locked(self.folder):
            if certificate.exists() and (self.folder / "ca.key").exists():
                _load_pair(certificate, self.folder / "ca.key")
                return certificate
            key = ec.generate_private_key(ec.SECP256R1())
            _write(self.folder / "ca.key", _pem_of_key(key), 0o600)
            _write(certificate, _pem_of(_sign_authority(key)), 0o644)
        return certificate

    def issue(
        self,
        target_folder: Path,
        name: str,
        *,
        dns: tuple[str, ...] = (),
        addresses: tuple[str, ...] = (),
    ) -> Issued:
        """A certificate for servers and clients: `NAME.crt`, `.key`, `.pem` (both) and `ca.crt` in a folder.

        The one that is there is kept while it fits this authority and these names, and stays valid for more
        than 30 days.

        Args:
            target_folder: where the files go; made when it is missing.
            name: file name and common name.
            dns: host names it is good for, `*.` in front for all names below one.
            addresses: IP addresses it is good for.
        """
        authority = self.ensure()
        target_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        issued = Issued.in_folder(target_folder, name)
        with _locked(target_folder):
            ca, ca_key = _load_pair(authority, self.folder / "ca.key")
            if issued.authority != authority:
                _write(issued.authority, _pem_of(ca), 0o644)
            if _keeps(issued, ca, name, dns, addresses):
                return issued
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = _pem_of(_sign(ca, ca_key, key, name, (dns, addresses)))
            _write(issued.key, _pem_of_key(key), 0o600)
            _write(issued.certificate, certificate, 0o644)
            _write(issued.pem, certificate + _pem_of(ca) + _pem_of_key(key), 0o600)
        return issued

    def fits(
        self, target_folder: Path, name: str, *, dns: tuple[str, ...] = (), addresses: tuple[str, ...] = ()
    ) -> bool:
        """Whether `issue` with the same words would keep what is there. Changes nothing."""
        issued = Issued.in_folder(target_folder, name)
        try:
            ca, _ = _load_pair(self.folder / "ca.crt", self.folder / "ca.key")
        except (OSError, AsbuiltError):
            return False
        return issued.authority.exists() and _keeps(issued, ca, name, dns, addresses)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; the lock ends with the process that holds it."""
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _sign_authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "asbuilt"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"asbuilt local authority {now:%Y-%m-%d %H:%M:%S}"),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _sign(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    name: str,
    alternatives: tuple[tuple[str, ...], tuple[str, ...]],
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    public = key.public_key()
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(min(now + _CERTIFICATE_LIFE, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    dns, addresses = alternatives
    names = [x509.DNSName(one) for one in dict.fromkeys(dns)]
    ips = [x509.IPAddress(ipaddress.ip_address(one)) for one in dict.fromkeys(addresses)]
    if names or ips:
        builder = builder.add_extension(x509.SubjectAlternativeName([*names, *ips]), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _keeps(
    issued: Issued, ca: x509.Certificate, name: str, dns: tuple[str, ...], addresses: tuple[str, ...]
) -> bool:
    """Whether the files that are there still serve: whole, ours, for these names, not about to end."""
    try:
        certificate, key = _load_pair(issued.certificate, issued.key)
        wanted_pem = _pem_of(certificate) + _pem_of(ca) + _pem_of_key(key)
        if issued.pem.read_bytes() != wanted_pem:
            return False
        certificate.verify_directly_issued_by(ca)
    except (OSError, AsbuiltError, ValueError, TypeError, InvalidSignature):
        return False
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        has_dns = set(names.get_values_for_type(x509.DNSName))
        has_addresses = {str(one) for one in names.get_values_for_type(x509.IPAddress)}
    except x509.ExtensionNotFound:
        has_dns, has_addresses = set(), set()
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    lasts = certificate.not_valid_after_utc > dt.datetime.now(dt.UTC) + _RENEW_BEFORE
    return lasts and common == name and has_dns == set(dns) and has_addresses == set(addresses)


def _load_pair(certificate: Path, key: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        public = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except ValueError as error:
        raise AsbuiltError(
            "TLS-001",
            f"{certificate.name} or {key.name} is damaged: {error}",
            where=str(certificate.parent),
            hint=f"move both files away; the next asbuilt up makes new ones: {certificate} {key}",
        ) from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != public.public_key():
        raise AsbuiltError(
            "TLS-001",
            f"{certificate.name} and {key.name} do not belong together",
            where=str(certificate.parent),
            hint=f"move both files away; the next asbuilt up makes new ones: {certificate} {key}",
        )
    return public, private


def _pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file in one step: whoever reads sees the old or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - temporary is a name, not a Path
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - the same
        raise
