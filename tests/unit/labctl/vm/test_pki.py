from __future__ import annotations

import ssl
import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from labctl.kube import kubeconfig
from labctl.runtime.clock import FakeClock
from labctl.vm import certificates, pki, sshkey
from labctl.vm.topology import Machine, Role, Topology, bridge_of, mac_of


def machine(name: str, role: Role, address: str) -> Machine:
    return Machine(name=name, role=role, address=address, mac=mac_of(address), cpus=1, memory_mib=512, disk_gib=4)


TOPOLOGY = Topology(
    lab="demo",
    provider="lxc",
    profile="fast",
    box="",
    network_cidr="10.9.0.0/24",
    host_address="10.9.0.1",
    bridge=bridge_of("demo"),
    cluster_cidr="10.244.0.0/16",
    service_cidr="10.96.0.0/16",
    machines=(machine("master1", "master", "10.9.0.10"), machine("worker1", "worker", "10.9.0.20")),
)
SECOND_MASTER = machine("master2", "master", "10.9.0.11")


def read(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "pki" / f"{name}.crt").read_bytes())


def names_of(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def uses_of(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted((folder / "pki").rglob("*")) if path.is_file()}


def test_the_api_server_is_known_by_all_names_that_clients_use(tmp_path: Path) -> None:
    pki.ensure(tmp_path, TOPOLOGY)
    assert names_of(read(tmp_path, "apiserver")) == {
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "10.96.0.1",
        "master1",
        "10.9.0.10",
    }


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("admin", "CN=kubernetes-admin,O=system:masters"),
        ("scheduler", "CN=system:kube-scheduler"),
        ("controllers", "CN=system:kube-controller-manager"),
        ("proxy", "CN=system:kube-proxy"),
        ("node-worker1", "CN=system:node:worker1,O=system:nodes"),
    ],
)
def test_identities_are_upstreams(tmp_path: Path, name: str, subject: str) -> None:
    pki.ensure(tmp_path, TOPOLOGY)
    assert read(tmp_path, name).subject.rfc4514_string() == subject


def test_etcd_has_an_authority_of_its_own_and_may_dial_itself(tmp_path: Path) -> None:
    pki.ensure(tmp_path, TOPOLOGY)
    server = read(tmp_path, "etcd/server-master1")
    server.verify_directly_issued_by(read(tmp_path, "etcd/ca"))
    read(tmp_path, "apiserver").verify_directly_issued_by(read(tmp_path, "ca"))
    assert uses_of(server) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert uses_of(read(tmp_path, "etcd/client")) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_openssl_accepts_what_was_issued(tmp_path: Path) -> None:
    """An implementation that is not ours: chains, uses and names as a TLS peer checks them."""
    pki.ensure(tmp_path, TOPOLOGY)
    folder = tmp_path / "pki"
    for authority, leaf, purpose in (
        ("ca", "apiserver", "sslserver"),
        ("ca", "kubelet-worker1", "sslserver"),
        ("ca", "admin", "sslclient"),
        ("etcd/ca", "etcd/server-master1", "sslserver"),
        ("etcd/ca", "etcd/server-master1", "sslclient"),
    ):
        argv = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", f"{authority}.crt", f"{leaf}.crt"]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (leaf, purpose, done.stderr)
    ssl.create_default_context(cafile=folder / "ca.crt").load_cert_chain(folder / "admin.crt", folder / "admin.key")


def test_certificates_begin_a_day_ago_because_clocks_differ(tmp_path: Path) -> None:
    clock = FakeClock()
    pki.ensure(tmp_path, TOPOLOGY, clock)
    leaf, authority = read(tmp_path, "apiserver"), read(tmp_path, "ca")
    assert clock.now() - leaf.not_valid_before_utc == timedelta(days=1)
    assert leaf.not_valid_after_utc - clock.now() == timedelta(days=365)
    assert authority.not_valid_after_utc - clock.now() == timedelta(days=3650)


def test_issuing_again_changes_nothing(tmp_path: Path) -> None:
    pki.ensure(tmp_path, TOPOLOGY)
    before = contents(tmp_path)
    pki.ensure(tmp_path, TOPOLOGY)
    assert contents(tmp_path) == before


def test_a_new_master_renews_the_api_servers_certificate_and_no_other(tmp_path: Path) -> None:
    pki.ensure(tmp_path, TOPOLOGY)
    before = contents(tmp_path)
    pki.ensure(tmp_path, msgspec.structs.replace(TOPOLOGY, machines=(*TOPOLOGY.machines, SECOND_MASTER)))
    after = contents(tmp_path)
    changed = {Path(path).name for path in before if before[path] != after[path]}
    assert changed == {"apiserver.crt", "apiserver.key"}
    assert {"master2", "10.9.0.11"} <= names_of(read(tmp_path, "apiserver"))


@pytest.mark.parametrize("damage", ["", "not a certificate"])
def test_a_damaged_or_lost_pair_is_issued_anew(tmp_path: Path, damage: str) -> None:
    pki.ensure(tmp_path, TOPOLOGY)
    (tmp_path / "pki/admin.crt").write_text(damage)
    (tmp_path / "pki/scheduler.key").unlink()
    pki.ensure(tmp_path, TOPOLOGY)
    for name in ("admin", "scheduler"):
        read(tmp_path, name).verify_directly_issued_by(read(tmp_path, "ca"))
    assert (tmp_path / "pki/scheduler.key").exists()


def test_a_replaced_authority_replaces_all_that_it_signed(tmp_path: Path) -> None:
    pki.ensure(tmp_path, TOPOLOGY)
    etcd = read(tmp_path, "etcd/client").serial_number
    (tmp_path / "pki/ca.key").unlink()
    pki.ensure(tmp_path, TOPOLOGY)
    read(tmp_path, "admin").verify_directly_issued_by(read(tmp_path, "ca"))
    assert read(tmp_path, "etcd/client").serial_number == etcd


def test_every_file_is_private(tmp_path: Path) -> None:
    pki.ensure(tmp_path, TOPOLOGY)
    files = [path for path in (tmp_path / "pki").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in [*files, tmp_path / "kubeconfig"]} == {0o600}


def test_the_admins_kubeconfig_stands_alone_and_names_every_master(tmp_path: Path) -> None:
    pki.ensure(tmp_path, msgspec.structs.replace(TOPOLOGY, machines=(*TOPOLOGY.machines, SECOND_MASTER)))
    text = (tmp_path / "kubeconfig").read_text()
    assert str(tmp_path) not in text
    endpoint = kubeconfig.load(tmp_path / "kubeconfig")
    assert endpoint.servers == ("https://10.9.0.2:6443", "https://10.9.0.10:6443", "https://10.9.0.11:6443")


def test_the_ssh_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = sshkey.ensure_ssh_key(tmp_path)
    assert first.startswith("ssh-ed25519 ")
    assert sshkey.ensure_ssh_key(tmp_path) == first
    assert stat.S_IMODE(sshkey.ssh_key(tmp_path).stat().st_mode) == 0o600
    known = subprocess.run(
        ["ssh-keygen", "-y", "-f", sshkey.ssh_key(tmp_path)], capture_output=True, text=True, check=True
    )
    assert known.stdout.split()[:2] == first.split()[:2]


def test_a_certificate_is_due_with_less_than_a_third_of_its_life_left_and_then_renewed(tmp_path: Path) -> None:
    clock = FakeClock()
    lab = pki.ensure(tmp_path, TOPOLOGY, clock)
    assert not [one for one in lab.expiries(TOPOLOGY) if one.due]
    clock.advance(timedelta(days=242).total_seconds())
    assert not [one for one in lab.expiries(TOPOLOGY) if one.due]
    clock.advance(timedelta(days=3).total_seconds())
    due = {one.path for one in lab.expiries(TOPOLOGY) if one.due}
    assert due == {leaf.path for leaf in certificates.leaves(TOPOLOGY)}  # the authorities last for ten years
    pki.ensure(tmp_path, TOPOLOGY, clock)
    assert {one.days_left for one in lab.expiries(TOPOLOGY) if not one.path.endswith("ca")} == {365}


def test_a_machine_whose_certificates_were_let_go_gets_others_and_nobody_else_does(tmp_path: Path) -> None:
    lab = pki.ensure(tmp_path, TOPOLOGY)
    before = contents(tmp_path)
    lab.forget(TOPOLOGY.machines[0])
    pki.ensure(tmp_path, TOPOLOGY)
    changed = {Path(path).stem for path, data in contents(tmp_path).items() if before[path] != data}
    assert changed == {"server-master1", "peer-master1"}
