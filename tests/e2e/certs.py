"""Throw-away certificates and kubeconfigs for an API server on loopback.

By hand, for development: `python -m tests.e2e.certs DIR [PORT] [ETCD_URL]` writes DIR/apiserver.json and
DIR/admin.kubeconfig; then `python -m master.apiserver --config DIR/apiserver.json`.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import sys
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

IDENTITIES = {
    "admin": ("kubernetes-admin", "system:masters"),
    "scheduler": ("system:kube-scheduler", ""),
    "controllers": ("system:kube-controller-manager", ""),
    "proxy": ("system:kube-proxy", ""),
    "kubelet": ("system:node:worker1", "system:nodes"),
    "nobody": ("somebody", ""),
}


class Pki:
    """A CA in `folder` that signs what it is asked for."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
        self._ca = (
            _builder(name, name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = folder / "ca.crt"
        self.ca_file.write_bytes(self._ca.public_bytes(serialization.Encoding.PEM))

    def issue(self, file: str, user: str, group: str = "", *, days: int = 1) -> tuple[Path, Path]:
        """Certificate and key files for a client or a server on loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        if group:
            parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            _builder(x509.Name(parts), self._ca.subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        paths = self.folder / f"{file}.crt", self.folder / f"{file}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    def kubeconfig(self, identity: str, server: str) -> Path:
        """A kubeconfig file for one of IDENTITIES."""
        path = self.folder / f"{identity}.kubeconfig"
        if path.exists():
            return path
        user, group = IDENTITIES[identity]
        certificate, key = self.issue(identity, user, group)
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": str(self.ca_file)}}],
            "users": [{"name": user, "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def config(self, port: int, etcd: str = "memory://", profile: str = "fast") -> Path:
        """An apiserver.json for a server on loopback."""
        certificate, key = self.issue("apiserver", "kube-apiserver")
        client = self.issue("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
        _, account_key = self.issue("sa", "service-accounts")
        document = {
            "bind_address": "127.0.0.1",
            "port": port,
            "advertise_address": "127.0.0.1",
            "etcd_servers": etcd.split(","),
            "tls_cert_file": str(certificate),
            "tls_key_file": str(key),
            "client_ca_file": str(self.ca_file),
            "kubelet_client_cert_file": str(client[0]),
            "kubelet_client_key_file": str(client[1]),
            "service_account_key_file": str(account_key),
            "disable_admission_plugins": ["ServiceAccount"],  # no controller makes the accounts
            "profile": profile,
        }
        path = self.folder / "apiserver.json"
        path.write_text(json.dumps(document, indent=2))
        return path


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int = 1
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    begin = now - datetime.timedelta(minutes=5) if days > 0 else now - datetime.timedelta(days=2)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def main() -> None:
    """See the module."""
    folder = Path(sys.argv[1])
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 16443
    pki = Pki(folder)
    config = pki.config(port, sys.argv[3] if len(sys.argv) > 3 else "memory://")
    for identity in IDENTITIES:
        pki.kubeconfig(identity, f"https://127.0.0.1:{port}")
    print(f"python -m master.apiserver --config {config}")


if __name__ == "__main__":
    main()
