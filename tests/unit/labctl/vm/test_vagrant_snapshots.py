"""Snapshots of a whole lab: all machines at one moment, and what wakes up after a restore."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.runtime.clock import FakeClock
from labctl.runtime.errors import UsageError
from labctl.runtime.shell import CommandError
from labctl.vm import ssh
from labctl.vm.libvirt import Libvirt
from labctl.vm.provider import Site
from labctl.vm.topology import Machine
from labctl.vm.vagrant.snapshots import Snapshots
from tests.unit.labctl.vm.fake_virsh import FakeVirsh
from tests.unit.labctl.vm.vagrant_lab import running, site


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
