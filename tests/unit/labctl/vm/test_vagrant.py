from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from labctl.runtime.errors import LabError, UsageError
from labctl.vm.libvirt import Libvirt
from labctl.vm.provider import Link, Power, Provider
from labctl.vm.providers import vagrant as provider_module
from labctl.vm.vagrant import network
from labctl.vm.vagrant.site import Hypervisor, command_line, domain, facts, network_xml, owner, prefix
from tests.unit.labctl.vm.fake_virsh import Domain, FakeVirsh
from tests.unit.labctl.vm.vagrant_lab import EMULATED, IMAGE, KEY, MASTER, WORKER, machine, provider, running, site

# -- names and facts ---------------------------------------------------------------------------------------------------


def test_it_is_a_provider() -> None:
    assert isinstance(provider_module.PROVIDER, Provider)


def test_no_lab_has_a_name_that_starts_as_anothers_does() -> None:
    assert not domain("a-b", "worker1").startswith(prefix("a"))


def test_a_machine_gets_name_address_and_key_on_its_command_line(tmp_path: Path) -> None:
    words = command_line(site(tmp_path), WORKER).split()
    assert "labctl.ip=10.9.0.20/24" in words
    assert "labctl.gateway=10.9.0.1" in words
    assert "systemd.hostname=worker1" in words
    (credential,) = (word for word in words if word.startswith("systemd.set_credential_binary="))
    assert base64.b64decode(credential.rpartition(":")[2]).decode() == f"{KEY}\n"
    assert len(" ".join(words)) < 2048  # what the kernel keeps


def test_a_disk_larger_than_the_boxs_is_grown_and_no_other(tmp_path: Path) -> None:
    large = machine("worker2", "worker", "10.9.0.21", disk_gib=20)
    lab = site(tmp_path, machines=(WORKER, large))
    told = facts(lab, IMAGE, EMULATED)
    assert told["disks_gib"] == {"worker1": None, "worker2": 20}
    assert "labctl.grow" in told["command_lines"]["worker2"]
    assert "labctl.grow" not in told["command_lines"]["worker1"]


@pytest.mark.parametrize(
    ("usable", "expected"), [(True, ("kvm", "host-passthrough", None)), (False, ("qemu", "custom", "Nehalem"))]
)
def test_the_vagrantfile_is_told_what_runs_the_machines(
    tmp_path: Path, usable: bool, expected: tuple[str, str, str | None]
) -> None:
    told = facts(site(tmp_path), IMAGE, Hypervisor(usable, ""))
    assert (told["driver"], told["cpu_mode"], told["cpu_model"]) == expected


def test_the_vagrantfile_reads_only_what_is_written(tmp_path: Path) -> None:
    text = (Path(__file__).parents[4] / "Vagrantfile").read_text()
    told = facts(site(tmp_path), IMAGE, EMULATED)
    written = msgspec.json.decode(msgspec.json.encode(site(tmp_path).topology.machines[0]))
    assert set(re.findall(r"host\['(\w+)'\]", text)) == set(told)
    assert set(re.findall(r"machine\['(\w+)'\]", text)) <= set(written)


def test_the_network_gives_each_machine_its_own_address_and_nobody_else_any(tmp_path: Path) -> None:
    told = ET.fromstring(network_xml(site(tmp_path)))
    assert {host.get("mac"): host.get("ip") for host in told.iter("host")} == {
        MASTER.mac: "10.9.0.10",
        WORKER.mac: "10.9.0.20",
    }
    assert told.find(".//range") is None
    assert told.find("forward") is None
    bridge = told.find("bridge")
    assert bridge is not None
    assert (bridge.get("name"), bridge.get("stp")) == ("lab-demo", "off")


# -- power -------------------------------------------------------------------------------------------------------------


def test_power_tells_each_machines_state(tmp_path: Path) -> None:
    lab = site(tmp_path)
    virsh = running(lab, worker1="paused")
    assert provider(virsh).power(lab) == {"master1": Power.RUNNING, "worker1": Power.SUSPENDED}


def test_a_domain_that_vagrant_did_not_finish_counts_as_absent(tmp_path: Path) -> None:
    lab = site(tmp_path)
    virsh = running(lab, worker1="shut off", master1="shut off")
    virsh.domains["labctl.demo.worker1"].mac = ""
    assert provider(virsh).power(lab) == {"master1": Power.OFF, "worker1": Power.ABSENT}


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        ("running", "power_off", "shut off"),
        ("paused", "power_off", "shut off"),
        ("shut off", "power_off", "shut off"),
        ("shut off", "power_on", "running"),
        ("running", "power_on", "running"),
        ("running", "suspend", "paused"),
        ("paused", "suspend", "paused"),
        ("paused", "resume", "running"),
        ("running", "resume", "running"),
        ("paused", "reset", "running"),
    ],
)
def test_power_operations_reach_their_state_from_any_other(
    tmp_path: Path, before: str, operation: str, after: str
) -> None:
    lab = site(tmp_path)
    virsh = running(lab, worker1=before)
    getattr(provider(virsh), operation)(lab, "worker1")
    assert virsh.domains["labctl.demo.worker1"].state == after
    assert virsh.domains["labctl.demo.master1"].state == "running"


@pytest.mark.parametrize("operation", ["reset", "suspend", "resume"])
def test_a_machine_that_is_off_cannot_be_frozen_or_reset(tmp_path: Path, operation: str) -> None:
    lab = site(tmp_path)
    with pytest.raises(LabError, match="is off"):
        getattr(provider(running(lab, worker1="shut off")), operation)(lab, "worker1")


def test_an_unknown_machine_is_a_usage_error(tmp_path: Path) -> None:
    lab = site(tmp_path)
    with pytest.raises(UsageError, match="worker9"):
        provider(running(lab)).power_off(lab, "worker9")


def test_a_cable_stays_out_over_a_power_cut(tmp_path: Path) -> None:
    lab = site(tmp_path)
    virsh = running(lab)
    provider(virsh).set_link(lab, "worker1", Link.DOWN)
    changes = [asked for asked in virsh.asked if asked.startswith("domif-setlink")]
    assert changes == [
        f"domif-setlink labctl.demo.worker1 {WORKER.mac} down --config",
        f"domif-setlink labctl.demo.worker1 {WORKER.mac} down",
    ]


# -- destroy -----------------------------------------------------------------------------------------------------------


def test_destroy_leaves_nothing_of_the_lab_and_all_of_others(tmp_path: Path) -> None:
    lab, other = site(tmp_path / "a"), site(tmp_path / "b", "demo-two")
    virsh = running(lab, worker1="paused")
    theirs = running(other)
    virsh.domains |= theirs.domains
    virsh.networks |= theirs.networks
    heard: list[str] = []
    provider(virsh).destroy(lab, lambda name, text: heard.append(f"{name} {text}"))
    assert set(virsh.domains) == set(theirs.domains)
    assert set(virsh.networks) == {"labctl.demo-two"}
    assert "vol-delete labctl.demo.worker1.img --pool labctl" in virsh.asked
    assert sorted(heard) == ["master1 destroyed", "worker1 destroyed"]


def test_destroy_takes_machines_that_the_topology_no_longer_knows(tmp_path: Path) -> None:
    lab = site(tmp_path)
    virsh = running(lab)
    virsh.domains["labctl.demo.worker7"] = Domain(mac="52:54:00:00:00:07", description=owner(lab))
    provider(virsh).destroy(lab, lambda *_: None)
    assert virsh.domains == {}


def test_a_lab_of_the_same_name_elsewhere_is_not_touched(tmp_path: Path) -> None:
    mine, theirs = site(tmp_path / "mine"), site(tmp_path / "theirs")
    virsh = running(theirs)
    with pytest.raises(LabError, match="already a lab named 'demo'"):
        provider(virsh).destroy(mine, lambda *_: None)
    assert len(virsh.domains) == 2


def test_destroying_a_lab_that_was_never_made_does_not_even_start_libvirt(tmp_path: Path) -> None:
    virsh = FakeVirsh()
    virsh.refused = {"uri"}
    provider(virsh).destroy(site(tmp_path), lambda *_: None)
    assert set(virsh.asked) == {"uri"}


# -- network -----------------------------------------------------------------------------------------------------------


def test_a_network_that_stopped_is_started_again_and_new_machines_get_their_address(tmp_path: Path) -> None:
    lab = site(tmp_path)
    virsh = running(lab)
    virsh.active.clear()
    grown = site(tmp_path, machines=(MASTER, WORKER, machine("worker2", "worker", "10.9.0.21")))
    network.make(Libvirt(virsh), grown)
    assert virsh.active == {"labctl.demo"}
    assert [asked for asked in virsh.asked if "net-update" in asked and "10.9.0.21" in asked]


def test_a_network_range_in_use_names_the_setting(tmp_path: Path) -> None:
    virsh = FakeVirsh()
    virsh.refused = {"net-start labctl.demo"}
    with pytest.raises(LabError) as caught:
        network.make(Libvirt(virsh), site(tmp_path))
    assert "`network` in lab.yaml" in caught.value.hint
