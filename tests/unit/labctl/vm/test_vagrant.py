from __future__ import annotations

import base64
import io
import os
import re
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.errors import DeadlineExceeded, LabError, UsageError
from labctl.runtime.shell import CommandError
from labctl.vm import ssh
from labctl.vm.libvirt import Libvirt
from labctl.vm.provider import Link, Power, Provider, Site
from labctl.vm.providers import vagrant as provider_module
from labctl.vm.providers.vagrant import VagrantProvider
from labctl.vm.topology import Machine, Role, Topology, bridge_of, mac_of
from labctl.vm.vagrant import kvm, network
from labctl.vm.vagrant.pool import Pool
from labctl.vm.vagrant.runner import Runner
from labctl.vm.vagrant.site import Hypervisor, Image, command_line, domain, facts, network_xml, owner, prefix
from labctl.vm.vagrant.snapshots import Snapshots
from tests.unit.labctl.vm.fake_virsh import Domain, FakeVirsh

KEY = "ssh-ed25519 AAAAC3Nza labctl-demo"
IMAGE = Image("labctl", "0123456789abcdef", Path("/var/cache/labctl/pool"))
EMULATED = Hypervisor(False, "emulation")


def machine(name: str, role: Role, address: str, disk_gib: int = 6) -> Machine:
    mac = mac_of(address)
    return Machine(name=name, role=role, address=address, mac=mac, cpus=1, memory_mib=1024, disk_gib=disk_gib)


MASTER = machine("master1", "master", "10.9.0.10")
WORKER = machine("worker1", "worker", "10.9.0.20")


def site(state_dir: Path, lab: str = "demo", machines: Sequence[Machine] = (MASTER, WORKER)) -> Site:
    topology = Topology(
        lab=lab,
        provider="vagrant",
        profile="fast",
        box="",
        network_cidr="10.9.0.0/24",
        host_address="10.9.0.1",
        bridge=bridge_of(lab),
        cluster_cidr="10.244.0.0/16",
        service_cidr="10.96.0.0/16",
        machines=tuple(machines),
    )
    return Site(topology=topology, state_dir=state_dir, ssh_public_key=KEY, cache_dir=state_dir / "cache")


def running(lab: Site, **states: str) -> FakeVirsh:
    """libvirt with this lab as it is after `up`, its machines running or in the given states."""
    domains = {
        domain(lab.topology.lab, m.name): Domain(states.get(m.name, "running"), m.mac, owner(lab))
        for m in lab.topology.machines
    }
    return FakeVirsh(domains, {f"labctl.{lab.topology.lab}": network_xml(lab)})


def provider(virsh: FakeVirsh) -> VagrantProvider:
    return VagrantProvider(virsh, FakeClock())


# -- names and facts --------------------------------------------------------------------------------------------------


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


# -- power ------------------------------------------------------------------------------------------------------------


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


# -- destroy ----------------------------------------------------------------------------------------------------------


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


# -- network ----------------------------------------------------------------------------------------------------------


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


# -- snapshots --------------------------------------------------------------------------------------------------------


class Woken:
    """Stands in for the ssh connection that sets a clock."""

    commands: list[str]

    def __init__(self) -> None:
        self.commands = []

    def __call__(self, site: Site, machine: Machine, **_: object) -> Woken:
        return self

    def __enter__(self) -> Woken:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, command: str, **_: object) -> object:
        self.commands.append(command)
        return type("Output", (), {"code": 0})


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> Woken:
    connections = Woken()
    monkeypatch.setattr(ssh, "connect", connections)
    return connections


def snapshots(virsh: FakeVirsh, lab: Site) -> Snapshots:
    return Snapshots(Libvirt(virsh), lab, FakeClock())


def test_all_machines_stand_still_while_any_is_saved(tmp_path: Path) -> None:
    lab = site(tmp_path)
    virsh = running(lab)
    snapshots(virsh, lab).save("one")
    saves = [index for index, asked in enumerate(virsh.asked) if asked.startswith("snapshot-create-as")]
    freezes = [index for index, asked in enumerate(virsh.asked) if asked.startswith("suspend")]
    thaws = [index for index, asked in enumerate(virsh.asked) if asked.startswith("resume")]
    assert max(freezes) < min(saves) < max(saves) < min(thaws)
    assert {one.state for one in virsh.domains.values()} == {"running"}


def test_a_save_that_fails_leaves_no_half_snapshot_and_the_lab_running(tmp_path: Path) -> None:
    lab = site(tmp_path)
    virsh = running(lab)
    virsh.refused = {"snapshot-create-as labctl.demo.worker1"}
    with pytest.raises(CommandError):
        snapshots(virsh, lab).save("one")
    assert [one.snapshots for one in virsh.domains.values()] == [{}, {}]
    assert {one.state for one in virsh.domains.values()} == {"running"}


def test_names_come_oldest_first_and_only_where_every_machine_has_them(tmp_path: Path) -> None:
    lab = site(tmp_path)
    virsh = running(lab)
    for name in ("zebra", "apple"):
        snapshots(virsh, lab).save(name)
    virsh.domains["labctl.demo.worker1"].snapshots["half"] = "2026-01-01 00:00:59 +0000"
    assert snapshots(virsh, lab).names() == ["zebra", "apple"]


@pytest.mark.parametrize("name", ["", "-x", "a b", "UP", "a;b", "x" * 64])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    lab = site(tmp_path)
    with pytest.raises(UsageError):
        snapshots(running(lab), lab).save(name)


def test_a_name_is_not_taken_twice(tmp_path: Path) -> None:
    lab = site(tmp_path)
    virsh = running(lab)
    snapshots(virsh, lab).save("one")
    with pytest.raises(UsageError, match="already"):
        snapshots(virsh, lab).save("one")


def test_a_restore_loads_what_runs_in_place_and_starts_what_is_off(tmp_path: Path, woken: Woken) -> None:
    lab = site(tmp_path)
    virsh = running(lab)
    snapshots(virsh, lab).save("one")
    virsh.domains["labctl.demo.worker1"].state = "shut off"
    virsh.domains["labctl.demo.master1"].link = "down"
    snapshots(virsh, lab).restore("one")
    assert "qemu-monitor-command labctl.demo.master1 --hmp loadvm one" in virsh.asked
    assert "snapshot-revert labctl.demo.worker1 one --paused" in virsh.asked
    assert {one.state for one in virsh.domains.values()} == {"running"}
    assert virsh.domains["labctl.demo.master1"].link == "up"


def test_after_a_restore_clocks_are_set_and_connections_to_the_host_dropped(tmp_path: Path, woken: Woken) -> None:
    lab = site(tmp_path)
    virsh = running(lab)
    snapshots(virsh, lab).save("one")
    snapshots(virsh, lab).restore("one")
    assert len(woken.commands) == 2
    now = FakeClock().now().timestamp()
    assert all(f"date -u -s @{now:.3f}" in command for command in woken.commands)
    assert all("ss -HKt dst 10.9.0.1" in command for command in woken.commands)


def test_restoring_what_does_not_exist_touches_nothing(tmp_path: Path) -> None:
    lab = site(tmp_path)
    virsh = running(lab)
    with pytest.raises(UsageError, match="no snapshot 'one'"):
        snapshots(virsh, lab).restore("one")
    assert not [asked for asked in virsh.asked if asked.startswith(("suspend", "qemu-monitor"))]


def test_deleting_what_does_not_exist_is_no_error(tmp_path: Path) -> None:
    lab = site(tmp_path)
    snapshots(running(lab), lab).delete("one")


# -- the pool ---------------------------------------------------------------------------------------------------------


def packed(path: Path, *members: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return path


def test_a_box_is_unpacked_into_the_pool_where_qemu_finds_it(tmp_path: Path) -> None:
    box = packed(tmp_path / "node.box", "box.img", "vmlinuz", "initrd")
    image = Pool(Libvirt(FakeVirsh()), tmp_path / "cache").add(box)
    assert (image.folder / image.volume).read_bytes() == b"box.img"
    assert image.file("vmlinuz").read_bytes() == b"vmlinuz"
    catalog = msgspec.json.decode(image.file("json").read_bytes())
    assert (catalog["name"], catalog["versions"][0]["version"]) == (image.box, image.version)


def test_a_box_without_a_kernel_is_refused(tmp_path: Path) -> None:
    box = packed(tmp_path / "node.box", "box.img")
    with pytest.raises(LabError, match="not a box that labctl can use"):
        Pool(Libvirt(FakeVirsh()), tmp_path / "cache").add(box)


def test_an_image_stays_as_long_as_a_machine_is_made_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "home"))
    virsh = FakeVirsh()
    pool = Pool(Libvirt(virsh), tmp_path / "cache")
    old = pool.add(packed(tmp_path / "old.box", "box.img", "vmlinuz", "initrd"))
    new = pool.add(packed(tmp_path / "new.box", "box.img", "vmlinuz", "initrd"))
    boxes = [tmp_path / "home/boxes" / f"labctl-VAGRANTSLASH-{image.key}" for image in (old, new)]
    for folder in boxes:
        folder.mkdir(parents=True)
    virsh.domains["labctl.x.w"] = Domain(kernel=str(old.file("vmlinuz")))
    pool.sweep(keep=new)
    assert old.file("vmlinuz").exists()
    assert boxes[0].exists()
    del virsh.domains["labctl.x.w"]
    pool.sweep(keep=new)
    assert not (old.folder / old.volume).exists()
    assert (new.folder / new.volume).exists()
    assert [folder.exists() for folder in boxes] == [False, True]
    pool.sweep()
    assert not pool.folder.exists()
    assert f"pool-undefine {pool.name}" in virsh.asked


# -- KVM --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH; put a `qemu-system-x86_64` there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def install(folder: Path, script: str) -> None:
    path = folder / kvm.QEMU
    path.write_text(f"#!/bin/sh\necho x >> {folder}/runs\n{script}\n")
    path.chmod(0o755)


def judge(tmp_path: Path, device: Path) -> Hypervisor:
    (tmp_path / "cache").mkdir(exist_ok=True)
    return kvm.hypervisor(tmp_path / "cache", IMAGE, SystemClock(), device)


def test_kvm_is_used_where_a_kernel_boots_under_it_and_that_is_tried_once(tmp_path: Path, fake_qemu: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    install(fake_qemu, "echo 'labctl: the kernel runs'")
    assert judge(tmp_path, device).kvm
    assert judge(tmp_path, device).driver == "kvm"
    assert (fake_qemu / "runs").read_text().count("x") == 1
    assert kvm.describe(tmp_path / "cache", device) == "libvirt with KVM"


@pytest.mark.parametrize("script", ["echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60", "exit 1"])
def test_kvm_that_cannot_boot_a_kernel_is_not_used_and_that_is_said(
    tmp_path: Path, fake_qemu: Path, script: str
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    install(fake_qemu, script)
    found = judge(tmp_path, device)
    assert (found.kvm, found.driver) == (False, "qemu")
    assert "does not boot" in found.why
    assert kvm.is_ruled_out(tmp_path / "cache", device)


def test_without_the_device_nothing_is_tried(tmp_path: Path, fake_qemu: Path) -> None:
    found = judge(tmp_path, tmp_path / "absent")
    assert not found.kvm
    assert "this host has no" in found.why
    assert not (fake_qemu / "runs").exists()


def test_a_verdict_of_an_earlier_boot_is_not_believed(tmp_path: Path) -> None:
    record = {"boot_id": "another", "image": "x", "kvm": True, "why": ""}
    (tmp_path / "kvm.json").write_bytes(msgspec.json.encode(record))
    assert kvm.remembered(tmp_path) is None


# -- Vagrant itself ---------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Vagrantfile, and a `vagrant` first on PATH; fill it in with `vagrant_says`."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project/Vagrantfile").touch()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "project"


def vagrant_says(project: Path, script: str) -> None:
    path = project.parent / "bin/vagrant"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_vagrant_makes_the_named_machines_and_its_steps_are_told(tmp_path: Path, project: Path) -> None:
    vagrant_says(project, 'echo "$@" "$VAGRANT_DOTFILE_PATH"; echo "==> worker1: Starting domain."; echo "==> x: y"')
    heard: list[tuple[str, str]] = []
    Runner(site(tmp_path), project, 20).make(["worker1", "worker2"], lambda *said: heard.append(said))
    assert heard == [("worker1", "starting")]
    log = (tmp_path / "logs/vagrant.log").read_text()
    assert f"up /^(worker1|worker2)$/ --no-provision {tmp_path.resolve()}/vagrant" in log


def test_a_failure_of_vagrant_ends_with_its_last_words_and_names_the_log(tmp_path: Path, project: Path) -> None:
    vagrant_says(project, "echo 'The box is broken.' >&2; exit 1")
    with pytest.raises(LabError, match="The box is broken") as caught:
        Runner(site(tmp_path), project, 20).make(["worker1"], lambda *_: None)
    assert "vagrant.log" in caught.value.hint


def test_a_ruby_traceback_does_not_hide_what_went_wrong(tmp_path: Path, project: Path) -> None:
    trace = "/usr/lib/ruby/vagrant/batch_action.rb:86:in block"
    vagrant_says(project, f'echo "libvirt: no such pool"; echo; echo "{trace}"; echo "  from {trace}"; exit 1')
    with pytest.raises(LabError, match="exited with 1: libvirt: no such pool"):
        Runner(site(tmp_path), project, 20).make(["worker1"], lambda *_: None)


def test_a_vagrant_that_hangs_is_ended(tmp_path: Path, project: Path) -> None:
    vagrant_says(project, "exec sleep 60")
    with pytest.raises(DeadlineExceeded):
        Runner(site(tmp_path), project, 0.3).make(["worker1"], lambda *_: None)


def test_an_interrupted_up_does_not_leave_vagrant_running(tmp_path: Path, project: Path) -> None:
    vagrant_says(project, "echo $$; echo '==> worker1: Starting domain.'; exec sleep 60")

    def interrupt(*_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(site(tmp_path), project, 20).make(["worker1"], interrupt)
    pid = (tmp_path / "logs/vagrant.log").read_text().splitlines()[1]
    assert not Path(f"/proc/{pid}").exists()
