"""Inventories: ours, Ansible's INI and Ansible's YAML say the same; what cannot be understood names file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labctl.drills.hosts import Host, load
from labctl.drills.inside import parse
from labctl.runtime.errors import UsageError

OURS = """
user: admin
key: keys/id
units: {kubelet: k3s-agent.service}
hosts:
  - {node: worker1, host: 192.0.2.21, power_off: "bmc off 1", power_on: "bmc on 1"}
  - {node: worker2, host: 192.0.2.22, port: 2222, user: root}
  - {node: master1, host: 192.0.2.10, role: master}
"""
INI = """
# the cluster
[masters]
master1 ansible_host=192.0.2.10
[workers]
worker1 ansible_host=192.0.2.21 labctl_power_off="bmc off 1" labctl_power_on='bmc on 1'
worker2 ansible_host=192.0.2.22 ansible_port=2222 ansible_user=root ; not a comment for ssh
[all:vars]
ansible_user = admin
ansible_ssh_private_key_file=keys/id
labctl_unit_kubelet=k3s-agent.service
[cluster:children]
masters
workers
"""
YAML = """
all:
  vars: {ansible_user: admin, ansible_ssh_private_key_file: keys/id, labctl_unit_kubelet: k3s-agent.service}
  children:
    masters:
      hosts:
        master1: {ansible_host: 192.0.2.10}
    workers:
      hosts:
        worker1: {ansible_host: 192.0.2.21, labctl_power_off: bmc off 1, labctl_power_on: bmc on 1}
        worker2: {ansible_host: 192.0.2.22, ansible_port: 2222, ansible_user: root}
"""


def test_our_own_format(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(OURS)
    found = load(path)
    assert (found.user, found.key, found.units) == (
        "admin",
        str(tmp_path / "keys/id"),
        {"kubelet": "k3s-agent.service"},
    )
    assert found.host("worker2") == Host(node="worker2", host="192.0.2.22", port=2222, user="root")
    first = found.host("worker1")
    assert first is not None
    assert (first.power_off, first.power_on) == ("bmc off 1", "bmc on 1")
    assert found.host("worker9") is None


@pytest.mark.parametrize(
    ("name", "text"), [("hosts", INI.replace(" ; not a comment for ssh", "")), ("hosts.yml", YAML)]
)
def test_ansibles_formats_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = load(path)
    key = str(tmp_path / "keys/id")
    assert {host.node: host for host in found.hosts} == {
        "master1": Host(node="master1", host="192.0.2.10", port=22, user="admin", key=key, role="master"),
        "worker1": Host(
            node="worker1", host="192.0.2.21", port=22, user="admin", key=key,
            power_off="bmc off 1", power_on="bmc on 1",
        ),
        "worker2": Host(node="worker2", host="192.0.2.22", port=2222, user="root", key=key),
    }  # fmt: skip
    assert found.units == {"kubelet": "k3s-agent.service"}


def test_the_inventory_that_labctl_writes_for_its_own_playbooks_is_one(tmp_path: Path) -> None:
    variables = {"ansible_user": "root", "ansible_ssh_private_key_file": "/keys/id", "lab": "one", "machines": []}
    hosts = {
        "master1": {"ansible_host": "10.0.0.10", "role": "master"},
        "worker1": {"ansible_host": "10.0.0.20", "role": "worker"},
    }
    path = tmp_path / "inventory.json"
    path.write_text(json.dumps({"all": {"vars": variables, "hosts": hosts}}))
    assert [(host.node, host.role, host.key) for host in load(path).hosts] == [
        ("master1", "master", "/keys/id"), ("worker1", "worker", "/keys/id"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("h.yaml", "hosts:\n  - {node: a, hots: b}\n", "h.yaml:2: hosts[0].hots: unknown field"),
        ("h.yaml", "hosts:\n  - {host: b}\n", "h.yaml:2: hosts[0]: object missing required field `node`"),
        ("h.yaml", "hosts: []\n", "no host in it"),
        ("h.yaml", "hosts:\n  - {node: a}\n  - {node: a}\n", "node 'a' stands twice"),
        ("h.yaml", "all: 3\n", "h.yaml:1: all: neither"),
        ("h.yaml", "hosts: [\n", "not YAML"),
        ("h.ini", "[workers]\nworker[1:3] ansible_user=root\n", "h.ini:2: not `name variable=value"),
        ("h.ini", "worker1 root\n", "h.ini:1: not `name variable=value"),
        ("h.ini", "worker1 a='b\n", "h.ini:1: No closing quotation"),
        ("h.ini", "worker1 ansible_port=ssh\n", "'ssh' is not a number"),
        ("h.ini", "", "no host in it"),
    ],
)
def test_what_cannot_be_understood_is_said(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert words in str(caught.value)


def test_containers_are_counted_by_crictl_where_there_is_no_nerdctl() -> None:
    labels = {"io.kubernetes.pod.uid": "u1", "io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "default",
              "io.kubernetes.container.name": "c"}  # fmt: skip
    listed = {
        "containers": [
            {
                "id": "abc",
                "state": "CONTAINER_RUNNING",
                "labels": labels,
                "metadata": {"name": "c"},
                "image": {"image": "x"},
            },
            {"id": "def", "state": "CONTAINER_EXITED", "labels": labels},
        ]
    }
    for text in (json.dumps(listed), json.dumps(listed, indent=2)):
        found = parse("worker1", f"{text}\n--- rules ---\nip saddr 10.244.1.7 drop\n")
        assert [(one.id, one.uid, one.running) for one in found.containers] == [
            ("abc", "u1", True),
            ("def", "u1", False),
        ]
        assert found.rule_addresses == ("10.244.1.7",)
