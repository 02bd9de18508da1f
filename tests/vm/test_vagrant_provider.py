"""The vagrant provider on real virtual machines. The tests build on each other, in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import paramiko
import pytest

from labctl.config import settings
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from labctl.vm import box, images, ssh, sshkey
from labctl.vm.libvirt import Libvirt
from labctl.vm.provider import Link, Power, Site
from labctl.vm.providers.vagrant import VagrantProvider
from labctl.vm.topology import Machine, Role, Topology, bridge_of, mac_of
from labctl.vm.vagrant.site import dotfile

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

LAB = "t-provider"
CLOCK = SystemClock()


def machine(name: str, role: Role, address: str) -> Machine:
    return Machine(name=name, role=role, address=address, mac=mac_of(address), cpus=1, memory_mib=768, disk_gib=9)


MASTER, WORKER = machine("master1", "master", "10.79.201.10"), machine("worker1", "worker", "10.79.201.20")
TOPOLOGY = Topology(
    lab=LAB,
    provider="vagrant",
    profile="fast",
    box="",
    network_cidr="10.79.201.0/24",
    host_address="10.79.201.1",
    bridge=bridge_of(LAB),
    cluster_cidr="10.244.0.0/16",
    service_cidr="10.96.0.0/16",
    machines=(MASTER, WORKER),
)


def quiet(name: str, text: str) -> None:
    """Tell nobody."""


def up(site: Site) -> None:
    VagrantProvider().up(site, (), quiet)


def run(site: Site, where: Machine, command: str, timeout_s: float = 60) -> str:
    with ssh.connect(site, where, deadline_s=60) as connection:
        return connection.run(command, timeout_s=timeout_s).stdout.strip()


def eventually(probe: Callable[[], object], what: str, deadline_s: float = 120) -> None:
    wait_for(lambda: probe() or None, what=what, deadline_s=deadline_s, clock=CLOCK)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A lab whose first `up` was killed in the middle."""
    state_dir = tmp_path_factory.mktemp("lab")
    (state_dir / "topology.json").write_bytes(msgspec.json.encode(TOPOLOGY))
    cache_dir = settings().cache_dir
    made = Site(
        topology=TOPOLOGY, state_dir=state_dir, ssh_public_key=sshkey.ensure_ssh_key(state_dir), cache_dir=cache_dir
    )
    box.box(cache_dir, quiet)
    try:
        yield made
    finally:
        VagrantProvider().destroy(made, quiet)


@pytest.fixture(scope="module")
def provider() -> VagrantProvider:
    return VagrantProvider()


def test_this_host_lacks_nothing_and_says_what_runs_the_machines(provider: VagrantProvider) -> None:
    assert provider.problems() == []
    assert any(word in provider.describe() for word in ("KVM", "emulation"))


def test_an_up_that_was_killed_is_finished_by_the_next(site: Site, provider: VagrantProvider) -> None:
    victim = multiprocessing.get_context("fork").Process(target=up, args=(site,))
    victim.start()
    assert victim.pid is not None
    eventually(lambda: Libvirt().domains(f"labctl.{LAB}."), "the first domain", 120)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(10)
    provider.up(site, (), quiet)
    assert provider.power(site) == {"master1": Power.RUNNING, "worker1": Power.RUNNING}


def test_each_machine_has_its_name_and_the_labs_address_alone(site: Site) -> None:
    for where in (MASTER, WORKER):
        assert run(site, where, "hostname") == where.name
        assert run(site, where, "ip -4 -o addr show scope global | awk '{print $4}'") == f"{where.address}/24"
    assert run(site, WORKER, f"ping -c1 -W5 -q {MASTER.address} >/dev/null && echo there") == "there"


def test_nothing_on_a_machine_failed_to_start(site: Site) -> None:
    assert run(site, WORKER, "systemctl is-system-running --wait") == "running"
    assert run(site, WORKER, "systemctl --failed -q --no-legend") == ""


def test_a_larger_disk_is_grown(site: Site) -> None:
    assert int(run(site, WORKER, "df --output=size -BG / | tail -1").rstrip("G")) >= 9


def test_only_the_labs_own_key_opens_a_machine(site: Site) -> None:
    client = paramiko.SSHClient()
    client.load_host_keys(str(site.state_dir / "ssh/known_hosts"))
    stranger = paramiko.ECDSAKey.generate()
    with pytest.raises(paramiko.AuthenticationException):
        client.connect(WORKER.address, username="root", pkey=stranger, allow_agent=False, look_for_keys=False)
    with pytest.raises(paramiko.AuthenticationException):
        client.connect(WORKER.address, username="root", password="vagrant", allow_agent=False, look_for_keys=False)
    client.close()
    assert run(site, MASTER, "cat /etc/ssh/ssh_host_*.pub") != run(site, WORKER, "cat /etc/ssh/ssh_host_*.pub")


def test_a_pods_image_runs_answers_and_ends_when_asked(site: Site) -> None:
    with ssh.connect(site, WORKER) as connection:
        connection.put("/var/tmp/web.tar", images.build("lab.local/web:1", site.cache_dir))
        for command in (
            "systemctl start containerd",
            "nerdctl load -q -i /var/tmp/web.tar",
            "ip netns add pod && ip netns exec pod ip link set lo up",
            "nerdctl run -d --name web --network ns:/run/netns/pod --hostname pod-1 lab.local/web:1",
        ):
            connection.run(command, timeout_s=120)
        fetch = "ip netns exec pod curl -s --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8080/"
        assert connection.run(fetch, timeout_s=60).stdout == "pod-1\n"
        began_s = CLOCK.monotonic_s()
        connection.run("nerdctl stop --time 60 web", timeout_s=90)
        assert CLOCK.monotonic_s() - began_s < 30
        connection.run("nerdctl rm -f web; ip netns del pod; systemctl stop containerd", timeout_s=60)


def test_vagrant_itself_knows_the_machines(site: Site, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "LABCTL_TOPOLOGY": str(site.state_dir / "topology.json"),
        "VAGRANT_DOTFILE_PATH": str(dotfile(site)),
    }
    ask = ["vagrant", "status"]
    root = settings().project_root
    told = subprocess.run(ask, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.count("running (libvirt)") == 2
    del environment["LABCTL_TOPOLOGY"]
    lost = subprocess.run(ask, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert lost.returncode != 0
    assert "labctl up" in lost.stderr


def test_a_second_up_changes_nothing(site: Site, provider: VagrantProvider) -> None:
    before = run(site, WORKER, "cat /proc/sys/kernel/random/boot_id")
    provider.up(site, (), quiet)
    assert run(site, WORKER, "cat /proc/sys/kernel/random/boot_id") == before


def test_a_frozen_machine_is_silent_until_it_is_thawed(site: Site, provider: VagrantProvider) -> None:
    provider.suspend(site, "worker1")
    assert provider.power(site)["worker1"] is Power.SUSPENDED
    assert not ssh.answers(WORKER.address, timeout_s=2)
    provider.resume(site, "worker1")
    eventually(lambda: ssh.answers(WORKER.address), "the thawed machine", 30)


def test_a_cable_that_is_out_cuts_the_machine_off(site: Site, provider: VagrantProvider) -> None:
    provider.set_link(site, "worker1", Link.DOWN)
    assert not ssh.answers(WORKER.address, timeout_s=2)
    assert run(site, MASTER, f"ping -c1 -W2 -q {WORKER.address} >/dev/null || echo gone") == "gone"
    provider.set_link(site, "worker1", Link.UP)
    eventually(lambda: ssh.answers(WORKER.address), "the cable to work", 30)


def test_a_restored_lab_has_its_memory_back_and_the_right_time(site: Site, provider: VagrantProvider) -> None:
    run(site, WORKER, "echo before > /run/marker; nohup sleep 9999 >/dev/null 2>&1 & echo $! > /run/sleeper")
    provider.snapshot_save(site, "one")
    assert list(provider.snapshot_list(site)) == ["one"]
    run(site, WORKER, "echo after > /run/marker; kill $(cat /run/sleeper)")
    time.sleep(3)  # real time passes, so that a clock left alone would be seen
    provider.snapshot_restore(site, "one")
    assert run(site, WORKER, "cat /run/marker") == "before"
    assert run(site, WORKER, "cat /proc/$(cat /run/sleeper)/comm") == "sleep"
    for where in (MASTER, WORKER):
        assert abs(float(run(site, where, "date +%s.%N")) - CLOCK.now().timestamp()) < 2
    assert run(site, WORKER, f"ping -c1 -W5 -q {MASTER.address} >/dev/null && echo there") == "there"


def test_a_snapshot_brings_back_a_lab_that_is_off(site: Site, provider: VagrantProvider) -> None:
    for where in (MASTER, WORKER):
        provider.power_off(site, where.name)
    assert set(provider.power(site).values()) == {Power.OFF}
    provider.snapshot_restore(site, "one")
    assert run(site, WORKER, "cat /run/marker") == "before"
    provider.snapshot_delete(site, "one")
    provider.snapshot_delete(site, "one")
    assert list(provider.snapshot_list(site)) == []


def test_a_machine_comes_back_from_a_reset_and_from_a_power_cut(site: Site, provider: VagrantProvider) -> None:
    boots = {run(site, WORKER, "cat /proc/sys/kernel/random/boot_id")}
    for operations in ((provider.reset,), (provider.power_off, provider.power_on)):
        for operation in operations:
            operation(site, "worker1")
        eventually(lambda: not ssh.answers(WORKER.address, 0.3), "sshd to be gone", 30)
        eventually(lambda: ssh.answers(WORKER.address), "the machine to be back", 180)
        boots.add(run(site, WORKER, "cat /proc/sys/kernel/random/boot_id"))
    assert len(boots) == 3


def test_halt_and_up_bring_back_the_same_disks_and_addresses(site: Site, provider: VagrantProvider) -> None:
    run(site, WORKER, "echo kept > /root/file; sync")
    provider.halt(site, (), quiet)
    assert set(provider.power(site).values()) == {Power.OFF}
    provider.up(site, (), quiet)
    assert run(site, WORKER, "cat /root/file") == "kept"


def test_destroy_leaves_nothing(site: Site, provider: VagrantProvider) -> None:
    provider.destroy(site, quiet)
    libvirt = Libvirt()
    assert libvirt.domains(f"labctl.{LAB}.") == {}
    assert f"labctl.{LAB}" not in libvirt.networks()
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, timeout=10, check=True).stdout
    assert TOPOLOGY.bridge not in links
    assert "lab0a4fc9" not in links  # the machines' ends of their cables
    assert not list((site.cache_dir / "pool").glob(f"labctl.{LAB}.*"))
    assert not dotfile(site).exists()
    index = Path(os.environ.get("VAGRANT_HOME") or Path.home() / ".vagrant.d") / "data/machine-index/index"
    assert str(site.state_dir) not in index.read_text()
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, timeout=10, check=True).stdout
    assert f"labctl.{LAB}" not in processes
    provider.destroy(site, quiet)
