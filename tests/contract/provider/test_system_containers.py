"""What only system containers must be careful about: they share the host's kernel, clock and network devices."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.runtime.errors import LabError
from labctl.runtime.shell import CommandError, LocalShell
from labctl.vm.provider import Power
from tests.contract.provider.world import NETWORKS, World

pytestmark = pytest.mark.lxc


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[World]:
    lab = World("lxc", tmp_path, "t-lxc-only", "10.78.11.0/24")
    try:
        yield lab
    finally:
        lab.destroy()


def test_a_machine_cannot_set_the_hosts_clock_nor_its_kernels_switches(lab: World) -> None:
    lab.up()
    for command in ("date -s 2030-01-01", "echo 1 > /proc/sys/kernel/panic", "echo h > /proc/sysrq-trigger"):
        with pytest.raises(CommandError):
            lab.run("worker1", command)


def test_a_machine_has_the_memory_it_was_given_and_no_more(lab: World) -> None:
    lab.up()
    hog = "python3 -c 'x = bytearray(900 * 2**20)' || echo killed"  # of 768 MiB
    assert "killed" in lab.run("worker1", hog)
    assert lab.run("worker1", "echo alive") == "alive"


def test_a_lost_monitor_leaves_a_machine_that_can_still_be_cut_and_started(lab: World) -> None:
    lab.up()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        if process.read_bytes().startswith(b"[lxc monitor]") and b"t-lxc-only-worker1" in process.read_bytes():
            os.kill(int(process.parent.name), signal.SIGKILL)
    lab.provider.power_off(lab.site, "worker1")
    assert lab.provider.power(lab.site)["worker1"] is Power.OFF
    lab.up()
    assert lab.reaches("worker1")


def test_destroy_removes_a_half_made_lab(lab: World) -> None:
    lab.up("master1")
    folder = lab.site.state_dir / "lxc" / "t-lxc-only-worker1"
    (folder / "disk").mkdir(parents=True)
    (lab.site.state_dir / "lxc" / "t-lxc-only-master1" / "config").unlink()
    lab.destroy()
    assert lab.leftovers() == []
    assert not folder.exists()


def test_a_network_that_is_in_use_is_refused_with_what_uses_it(lab: World) -> None:
    shell = LocalShell()
    shell.run(["ip", "link", "add", "t-taken", "type", "bridge"])
    try:
        shell.run(["ip", "addr", "add", "10.78.11.99/24", "dev", "t-taken"])
        with pytest.raises(LabError, match=r"10\.78\.11\.99/24 on t-taken"):
            lab.up()
    finally:
        shell.run(["ip", "link", "del", "t-taken"])


def test_a_lab_of_the_same_name_elsewhere_is_not_touched(lab: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    lab.up("worker1")
    other = World("lxc", tmp_path_factory.mktemp("other"), "t-lxc-only", NETWORKS["lxc"])
    with pytest.raises(LabError, match=str(lab.site.state_dir)):
        other.up()
    other.destroy()
    assert lab.reaches("worker1")


def test_a_machine_whose_root_file_system_is_gone_says_so(lab: World) -> None:
    lab.up("worker1")
    lab.provider.power_off(lab.site, "worker1")
    (lab.site.state_dir / "lxc" / "t-lxc-only-worker1" / "rootfs").write_text("/nowhere")
    with pytest.raises(LabError, match="worker1 was made over /nowhere, which is gone"):
        lab.up("worker1")
