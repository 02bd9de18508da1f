"""Provisioning real machines: what the playbooks leave on a node, and that a second run leaves it alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.runtime.errors import LabError
from labctl.vm import pki, provision
from labctl.vm.playbook import Outcome
from tests.contract.provider.world import World, eventually

pytestmark = pytest.mark.lxc
ROOT = Path(__file__).resolve().parents[3]


class Provisioned(World):
    project: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provisioned]:
    lab = Provisioned("lxc", tmp_path_factory.mktemp("lab"), "t-provision", "10.78.12.0/24")
    lab.project = tmp_path_factory.mktemp("project")  # a copy: somebody may be at work on the sources
    for name in ("labctl", "master", "agents", "playbooks"):
        shutil.copytree(ROOT / name, lab.project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, lab.project / name)
    pki.ensure(lab.site.state_dir, lab.site.topology)
    try:
        lab.up()
        apply(lab)
        yield lab
    finally:
        lab.destroy()


def apply(lab: Provisioned) -> Outcome:
    return provision.run(lab.site, lab.project, lab.progress)


def test_every_role_is_a_unit_that_starts_with_the_machine(lab: Provisioned) -> None:
    units = {
        "master1": "etcd labctl-apiserver labctl-scheduler labctl-controllers labctl-proxy",
        "worker1": "containerd labctl-kubelet labctl-proxy",
    }
    for name, expected in units.items():
        enabled = lab.run(name, f"systemctl is-enabled {expected}").split()
        assert enabled == ["enabled"] * len(expected.split())


def test_a_second_run_changes_nothing(lab: Provisioned) -> None:
    assert dict(apply(lab).changed) == {"master1": 0, "worker1": 0}


def test_a_file_that_was_tampered_with_is_put_right_and_nothing_else(lab: Provisioned) -> None:
    before = lab.run("worker1", "cat /etc/labctl/proxy.json")
    lab.run("worker1", "echo '{}' > /etc/labctl/proxy.json")
    assert dict(apply(lab).changed) == {"master1": 0, "worker1": 2}  # the role, and the start
    assert lab.run("worker1", "cat /etc/labctl/proxy.json") == before


def test_a_node_imports_our_program_compiled_beforehand(lab: Provisioned) -> None:
    assert "labctl-data" in lab.run("master1", "ls /opt/labctl/app")
    lab.run("worker1", "cd / && PYTHONPATH=/opt/labctl/app python3 -c 'import labctl.kube.client'")
    compiled = lab.run("worker1", "ls /opt/labctl/app/labctl/kube/__pycache__")
    assert "client.cpython-313.pyc" in compiled


def test_etcd_serves_the_api_servers_certificate_and_nobody_else(lab: Provisioned) -> None:
    health = "curl -s --max-time 10 --cacert /etc/labctl/pki/etcd/ca.crt {} https://127.0.0.1:2379/health"
    pair = "--cert /etc/labctl/pki/etcd/client.crt --key /etc/labctl/pki/etcd/client.key"
    asked = health.format(pair)
    eventually(lambda: lab.run("master1", f"{asked} || true"), "etcd to answer")
    assert json.loads(lab.run("master1", asked))["health"] == "true"
    assert lab.run("master1", health.format("") + " || echo refused") == "refused"
    kubernetes = (
        "--cert /etc/labctl/pki/apiserver-kubelet-client.crt --key /etc/labctl/pki/apiserver-kubelet-client.key"
    )
    assert lab.run("master1", health.format(kubernetes) + " || echo refused") == "refused"


def test_the_control_plane_runs_as_users_of_its_own_that_cannot_read_each_others_keys(lab: Provisioned) -> None:
    users = lab.run("master1", "systemctl show -P User labctl-apiserver labctl-scheduler labctl-controllers").split()
    assert users == ["labctl-apiserver", "labctl-scheduler", "labctl-controllers"]
    read = "setpriv --reuid={0} --regid={0} --clear-groups cat {1} > /dev/null 2>&1 && echo read || echo refused"
    keys = "/etc/labctl/pki/sa.key", "/etc/labctl/pki/etcd/server.key", "/etc/labctl/pki/scheduler.key"
    assert [lab.run("master1", read.format("labctl-scheduler", key)) for key in keys] == ["refused", "refused", "read"]


def test_no_unit_is_left_open_where_it_could_be_closed(lab: Provisioned) -> None:
    """systemd's own audit; 10 is wide open. The kubelet has to run as it does: see its unit."""
    audit = "systemd-analyze security --no-pager --json=short {} | tail -n +1"
    for name in ("labctl-apiserver", "labctl-scheduler", "labctl-controllers"):
        overall = lab.run("master1", f"systemd-analyze security --no-pager {name}.service | tail -1")
        assert float(overall.split(": ")[1].split()[0]) < 2.5, (overall, audit)
    overall = lab.run("worker1", "systemd-analyze security --no-pager labctl-proxy.service | tail -1")
    assert float(overall.split(": ")[1].split()[0]) < 5.0, overall


def test_a_node_forwards_packets_and_keeps_its_journal(lab: Provisioned) -> None:
    assert lab.run("worker1", "cat /proc/sys/net/ipv4/ip_forward") == "1"
    eventually(lambda: lab.run("worker1", "ls /var/log/journal"), "a journal on disk", 20)


def test_nerdctl_shows_the_kubelets_containers_by_default(lab: Provisioned) -> None:
    assert lab.run("worker1", "nerdctl ps -q") == ""
    assert "k8s.io" in lab.run("worker1", "nerdctl namespace ls -q; echo; cat /etc/nerdctl/nerdctl.toml")


def test_a_machine_that_is_off_is_named(lab: Provisioned) -> None:
    lab.provider.power_off(lab.site, "worker1")
    try:
        with pytest.raises(LabError, match="worker1 could not be reached"):
            apply(lab)
    finally:
        lab.up()
