"""Throw-away certificates for tests."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from master.store.etcd import Tls


@dataclass(frozen=True)
class Pki:
    """A CA's files; what a server on 127.0.0.1 and a client show, and a client of another CA."""

    server: Tls
    client: Tls
    stranger: Tls


def make_pki(folder: Path) -> Pki:
    """Write them into `folder`."""
    ours, theirs = _Authority(folder, "ca"), _Authority(folder, "other-ca")
    server = ours.issue("server", ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    client = ours.issue("client", ExtendedKeyUsageOID.CLIENT_AUTH)
    stranger = theirs.issue("stranger", ExtendedKeyUsageOID.CLIENT_AUTH)
    return Pki(server, client, Tls(ours.file, stranger.cert_file, stranger.key_file))


class _Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        made = self._builder(self._name, self._key.public_key())
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        certificate = made.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file = str(folder / f"{name}.crt")
        Path(self.file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *usages: x509.ObjectIdentifier) -> Tls:
        """A certificate for 127.0.0.1, its key, and the CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = self._builder(subject, key.public_key()).add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        made = made.add_extension(authority, critical=False).add_extension(address, critical=False)
        certificate = made.sign(self._key, hashes.SHA256())
        paths = (self._folder / f"{name}.crt", self._folder / f"{name}.key")
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Tls(self.file, str(paths[0]), str(paths[1]))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
