"""The lab's certificates and the admin's kubeconfig, issued into <state_dir>/pki; `certificates.py` says which.

Idempotent: what exists and still fits is kept; a certificate whose names changed, whose authority was replaced or which
nears its end is issued anew.
"""

from __future__ import annotations

import contextlib
import ipaddress
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labctl.kube import kubeconfig
from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.errors import LabError
from labctl.vm.certificates import Leaf, leaves, node_leaves
from labctl.vm.state import write_atomically, write_changed
from labctl.vm.topology import Machine, Topology

_BACKDATED = timedelta(days=1)  # a node's clock may be behind ours
_AUTHORITY_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=365)
_RENEW_LEFT = 3  # renewed once less than a third of its life is left

_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


class Expiry(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that exists, and how long it lasts."""

    path: str  # below pki/, without .crt
    subject: str
    expires: datetime
    days_left: int
    due: bool  # `labctl up` renews it, unless it is an authority's


class Pki:
    """A lab's authorities and what they signed, on disk: private files, replaced in one step."""

    def __init__(self, state_dir: Path, clock: Clock | None = None) -> None:
        self._dir = state_dir / "pki"
        self._clock = clock or SystemClock()

    def issue(self, topology: Topology) -> None:
        """Make whatever is missing or no longer fits."""
        for authority in ("ca", "etcd/ca"):
            self._authority(authority, "kubernetes" if authority == "ca" else "etcd-ca")
        for leaf in leaves(topology):
            self._leaf(leaf)
        if not self.path("sa.key").exists():
            self._write("sa.key", _key_pem(generate_private_key(SECP256R1())))

    def expiries(self, topology: Topology) -> tuple[Expiry, ...]:
        """What there is and how long it lasts, authorities first; what was never issued is left out."""
        now, found = self._clock.now(), []
        for path in ("ca", "etcd/ca", *(leaf.path for leaf in leaves(topology))):
            with contextlib.suppress(FileNotFoundError):
                has = x509.load_pem_x509_certificate(self.path(f"{path}.crt").read_bytes())
                left = has.not_valid_after_utc - now
                found.append(
                    Expiry(
                        path=path,
                        subject=has.subject.rfc4514_string(),
                        expires=has.not_valid_after_utc,
                        days_left=left.days,
                        due=_due(has, now),
                    )
                )
        return tuple(found)

    def forget(self, machine: Machine) -> None:
        """Let go of a machine's own certificates and keys, so that it gets others."""
        for leaf in node_leaves(machine):
            for suffix in ("crt", "key"):
                self.path(f"{leaf.path}.{suffix}").unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Where `name`, e.g. `ca.crt` or `etcd/client.key`, lies."""
        return self._dir / name

    def pem(self, name: str) -> str:
        """The content of `name`; LabError where it was never issued."""
        try:
            return self.path(name).read_text()
        except FileNotFoundError as error:
            raise LabError(f"{self.path(name)} is missing", hint="`labctl up` issues it") from error

    def _write(self, name: str, data: bytes) -> None:
        write_atomically(self.path(name), data)

    def _authority(self, name: str, common_name: str) -> None:
        if self.path(f"{name}.crt").exists() and self.path(f"{name}.key").exists():
            return
        key = generate_private_key(SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            self._dated(_AUTHORITY_LIFE)
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
        )
        self._write(f"{name}.key", _key_pem(key))  # the certificate last: it says that the pair is whole
        self._write(f"{name}.crt", builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _leaf(self, leaf: Leaf) -> None:
        authority = x509.load_pem_x509_certificate(self.pem(f"{leaf.authority}.crt").encode())
        if self._fits(leaf, authority):
            return
        signer = serialization.load_pem_private_key(self.pem(f"{leaf.authority}.key").encode(), password=None)
        assert isinstance(signer, EllipticCurvePrivateKey)
        key = generate_private_key(SECP256R1())
        builder = (
            self._dated(_LEAF_LIFE)
            .subject_name(_subject(leaf))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(_purposes(leaf), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_signed_by(authority), critical=False)
        )
        if leaf.names:
            builder = builder.add_extension(_alternative_names(leaf), critical=False)
        self._write(f"{leaf.path}.key", _key_pem(key))
        self._write(f"{leaf.path}.crt", builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _dated(self, life: timedelta) -> x509.CertificateBuilder:
        now = self._clock.now()
        return (
            x509.CertificateBuilder()
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + life)
        )

    def _fits(self, leaf: Leaf, authority: x509.Certificate) -> bool:
        try:
            has = x509.load_pem_x509_certificate(self.path(f"{leaf.path}.crt").read_bytes())
            key = serialization.load_pem_private_key(self.path(f"{leaf.path}.key").read_bytes(), password=None)
            names = has.extensions.get_extension_for_class(x509.SubjectAlternativeName).value if leaf.names else None
            purposes = has.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            signed_by = has.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        except (OSError, ValueError, x509.ExtensionNotFound):
            return False
        return (
            has.subject == _subject(leaf)
            and has.public_key() == key.public_key()
            and (names is None or names == _alternative_names(leaf))
            and purposes == _purposes(leaf)
            and signed_by == _signed_by(authority)
            and not _due(has, self._clock.now())
        )


def _due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether so little is left of its life that it is renewed."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (end - now) * _RENEW_LEFT < end - begin


def _subject(leaf: Leaf) -> x509.Name:
    organization = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organization)] if leaf.organization else []
    return x509.Name([*organization, x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)])


def _purposes(leaf: Leaf) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([*([_SERVER] if leaf.server else []), *([_CLIENT] if leaf.client else [])])


def _alternative_names(leaf: Leaf) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for name in leaf.names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)


def _signed_by(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    pkcs8 = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())


def admin_kubeconfig(topology: Topology, pki: Pki) -> str:
    """For this host: everything inline, so that the file can be carried anywhere."""
    credentials = {"ca": pki.pem("ca.crt"), "cert": pki.pem("admin.crt"), "key": pki.pem("admin.key")}
    return kubeconfig.render(topology.lab, topology.api_servers, "kubernetes-admin", credentials)


def ensure(state_dir: Path, topology: Topology, clock: Clock | None = None) -> Pki:
    """Everything a lab needs: certificates, and the admin's kubeconfig at <state_dir>/kubeconfig."""
    pki = Pki(state_dir, clock)
    pki.issue(topology)
    write_changed(state_dir / "kubeconfig", admin_kubeconfig(topology, pki).encode())
    return pki
