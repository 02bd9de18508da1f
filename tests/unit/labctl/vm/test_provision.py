from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from labctl.runtime.errors import LabError
from labctl.vm import provision, sshkey
from labctl.vm.playbook import Reading, settings
from labctl.vm.provider import Site
from labctl.vm.topology import Machine, Role, Taint, Topology, bridge_of, mac_of

ROOT = Path(__file__).resolve().parents[4]

ARCHIVES = {role: Path(f"/cache/app/labctl-1/{role}.zip") for role in ("master", "worker")}


def machine(name: str, role: Role, address: str) -> Machine:
    return Machine(
        name=name,
        role=role,
        address=address,
        mac=mac_of(address),
        cpus=2,
        memory_mib=512,
        disk_gib=4,
        labels={"zone": "a"},
        taints=(Taint("dedicated", "NoSchedule", "db"),),
    )


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
    machines=(
        machine("master1", "master", "10.9.0.10"),
        machine("master2", "master", "10.9.0.11"),
        machine("worker1", "worker", "10.9.0.20"),
    ),
)


def site(folder: Path, **changes: object) -> Site:
    return Site(
        topology=msgspec.structs.replace(TOPOLOGY, **changes),
        state_dir=folder,
        ssh_public_key="",
        cache_dir=folder / "cache",
    )


def reading() -> tuple[Reading, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    return Reading(lambda name, what: told.append((name, what))), told


def line(**fields: object) -> str:
    return json.dumps(fields) + "\n"


def test_each_machine_is_reached_at_its_lab_address_as_root_with_the_labs_key(tmp_path: Path) -> None:
    everyone = provision.inventory(site(tmp_path), ARCHIVES)["all"]
    assert everyone["hosts"]["worker1"]["ansible_host"] == "10.9.0.20"
    assert everyone["hosts"]["worker1"]["app_archive"] == "/cache/app/labctl-1/worker.zip"
    assert everyone["hosts"]["worker1"]["app_version"] == "labctl-1"
    assert everyone["vars"]["ansible_user"] == "root"
    assert everyone["vars"]["ansible_ssh_private_key_file"] == str(sshkey.ssh_key(tmp_path))


def test_a_master_talks_to_its_own_api_server_first_and_a_worker_to_whichever_lives(tmp_path: Path) -> None:
    everyone = provision.inventory(site(tmp_path), ARCHIVES)["all"]
    assert everyone["hosts"]["master2"]["api_servers"] == ["https://10.9.0.11:6443", "https://10.9.0.10:6443"]
    assert everyone["hosts"]["worker1"]["api_servers"] == [
        *("https://10.9.0.2:6443", "https://10.9.0.10:6443", "https://10.9.0.11:6443")
    ]
    assert everyone["vars"]["virtual_address"] == "10.9.0.2"


def test_a_single_master_needs_no_virtual_address(tmp_path: Path) -> None:
    alone = site(tmp_path, machines=(TOPOLOGY.machines[0], TOPOLOGY.machines[2]))
    everyone = provision.inventory(alone, ARCHIVES)["all"]
    assert everyone["vars"]["virtual_address"] == ""
    assert everyone["hosts"]["worker1"]["api_servers"] == ["https://10.9.0.10:6443"]


def test_labels_and_taints_reach_the_node(tmp_path: Path) -> None:
    worker = provision.inventory(site(tmp_path), ARCHIVES)["all"]["hosts"]["worker1"]
    assert worker["labels"] == {"zone": "a"}
    assert worker["taints"] == [{"key": "dedicated", "effect": "NoSchedule", "value": "db"}]


def test_a_system_container_is_told_its_size_and_a_virtual_machine_measures_it(tmp_path: Path) -> None:
    container = provision.inventory(site(tmp_path), ARCHIVES)["all"]["hosts"]["worker1"]
    assert (container["cpus"], container["memory_bytes"], container["disk_bytes"]) == (2, 512 * 2**20, 4 * 2**30)
    vm = provision.inventory(site(tmp_path, provider="vagrant"), ARCHIVES)["all"]["hosts"]["worker1"]
    assert (vm["cpus"], vm["memory_bytes"], vm["disk_bytes"]) == (0, 0, 0)


def test_a_machine_that_was_only_just_made_is_not_asked_what_it_has(tmp_path: Path) -> None:
    hosts = provision.inventory(site(tmp_path), ARCHIVES, made=["worker1"])["all"]["hosts"]
    assert [name for name, variables in hosts.items() if variables["fresh"]] == ["worker1"]


def test_ansible_trusts_the_labs_own_host_keys_only_and_asks_nobody(tmp_path: Path) -> None:
    found = settings(site(tmp_path), ROOT / "playbooks", tmp_path)
    for option in (f"UserKnownHostsFile={tmp_path}/ssh/known_hosts", "StrictHostKeyChecking=yes", "BatchMode=yes"):
        assert f"-o {option}" in found["ANSIBLE_SSH_ARGS"]


def test_a_changed_playbook_or_certificate_asks_for_provisioning_again(tmp_path: Path) -> None:
    project, lab = tmp_path / "project", site(tmp_path / "state")
    (project / "playbooks").mkdir(parents=True)
    (project / "pyproject.toml").touch()
    (tmp_path / "state/pki").mkdir(parents=True)
    prints = [provision.fingerprint(lab, project)]
    (project / "playbooks/site.yml").write_text("[]")
    prints.append(provision.fingerprint(lab, project))
    (tmp_path / "state/pki/ca.crt").write_text("new")
    prints.append(provision.fingerprint(lab, project))
    assert len(set(prints)) == 3
    assert provision.fingerprint(lab, project) == prints[-1]


def test_progress_is_told_by_machine_and_role_and_what_changed_is_counted(tmp_path: Path) -> None:
    one, told = reading()
    one.line(line(event="start", host="worker1", role="kubelet", task="Run kubelet"))
    one.line(line(event="ok", host="worker1", role="kubelet", task="Run kubelet", changed=True))
    one.line(line(event="ok", host="worker1", role="proxy", task="Run kube-proxy", changed=False))
    one.line("a line of somebody else\n")
    assert told == [("worker1", "kubelet: Run kubelet"), ("worker1", "proxy: Run kube-proxy (unchanged)")]
    assert one.at == "worker1 was at kubelet: Run kubelet"
    assert one.outcome(0, tmp_path / "log").changed == {"worker1": 1}


def test_a_failure_names_machine_role_task_and_message_in_one_line(tmp_path: Path) -> None:
    one, _ = reading()
    one.line(line(event="failed", host="worker1", role="kubelet", task="Run kubelet", message="no\n  space"))
    one.line(line(event="failed", host="worker2", role="proxy", task="Run kube-proxy", message="later"))
    with pytest.raises(LabError, match="worker1, role kubelet, 'Run kubelet': no space"):
        one.outcome(2, tmp_path / "log")


def test_a_machine_out_of_reach_is_said_to_be_so(tmp_path: Path) -> None:
    one, _ = reading()
    one.line(line(event="unreachable", host="worker1", role="base", task="x", message="timed out"))
    with pytest.raises(LabError, match="worker1 could not be reached: timed out") as caught:
        one.outcome(4, tmp_path / "log")
    assert "labctl status" in caught.value.hint


def test_a_failure_of_ansible_itself_ends_with_its_last_words(tmp_path: Path) -> None:
    one, _ = reading()
    (tmp_path / "log").write_text("Traceback\nERROR! no such playbook\n")
    with pytest.raises(LabError, match="exited with 1: ERROR! no such playbook"):
        one.outcome(1, tmp_path / "log")
