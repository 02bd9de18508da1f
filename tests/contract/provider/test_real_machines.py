"""What a provider of real machines promises beyond the protocol: disks, addresses, identity, the network."""

from __future__ import annotations

import pytest

from tests.contract.provider.world import World, eventually

REAL_MACHINES = True


@pytest.fixture(autouse=True)
def _up(world: World) -> None:
    world.up()


def test_machines_have_their_names_their_addresses_and_reach_each_other_and_the_host(world: World) -> None:
    for machine in world.site.topology.machines:
        assert world.run(machine.name, "hostname") == machine.name
        assert f" {machine.address}/24 " in world.run(machine.name, "ip -o -4 addr")
        assert machine.mac in world.run(machine.name, "ip -o link")
    worker = world.site.topology.workers[0].address
    for address in (worker, world.site.topology.host_address):
        assert world.run("master1", f"ping -c1 -W5 {address} >/dev/null && echo reached") == "reached"


def test_what_was_written_survives_a_power_cut_and_a_halt(world: World) -> None:
    world.run("worker1", "mkdir -p /var/lib/labctl")
    world.run("worker1", "echo kept > /root/note && echo too > /var/lib/labctl/note && sync")
    world.provider.power_off(world.site, "worker1")
    world.up()
    assert world.run("worker1", "cat /root/note /var/lib/labctl/note") == "kept\ntoo"
    world.provider.halt(world.site, (), world.progress)
    world.up()
    assert world.run("worker1", "cat /root/note /var/lib/labctl/note") == "kept\ntoo"


def test_a_snapshot_brings_both_machines_disks_back_to_one_moment(world: World) -> None:
    for name in world.machines:
        world.run(name, "mkdir -p /var/lib/labctl")
        world.run(name, "echo before > /root/note && echo before > /var/lib/labctl/note && sync")
    world.provider.snapshot_save(world.site, "moment")
    for name in world.machines:
        world.run(name, "echo after > /root/note; rm /var/lib/labctl/note; sync")
    world.provider.snapshot_restore(world.site, "moment")
    eventually(lambda: all(world.reaches(name) for name in world.machines), "all machines to answer")
    assert [world.run(name, "cat /root/note /var/lib/labctl/note") for name in world.machines] == ["before\nbefore"] * 2
    world.provider.snapshot_delete(world.site, "moment")


def test_a_machine_routes_packets_of_others_over_the_labs_network(world: World) -> None:
    """As pods of one node reach pods of another: addresses that the lab's network itself knows nothing of."""
    worker, master = world.site.topology.workers[0].address, world.site.topology.masters[0].address
    world.run("worker1", "ip addr add 10.244.7.1/32 dev lo && sysctl -q -w net.ipv4.ip_forward=1")
    world.run("master1", f"ip addr add 10.244.6.1/32 dev lo && ip route replace 10.244.7.0/24 via {worker}")
    world.run("worker1", f"ip route replace 10.244.6.0/24 via {master}")
    assert world.run("master1", "ping -c1 -W5 -I 10.244.6.1 10.244.7.1 >/dev/null && echo reached") == "reached"


def test_containers_run_inside_with_a_memory_limit(world: World) -> None:
    world.run("worker1", "systemctl start containerd")
    # A bundle of the machine's own busybox, run by runc: cgroups, namespaces and mounts, without an image.
    script = """
set -e
mkdir -p /var/lib/labctl/bundle/rootfs/bin && cd /var/lib/labctl/bundle && cp /usr/bin/busybox rootfs/bin/
runc spec && python3 - <<'P'
import json
spec = json.load(open("config.json"))
spec["process"].update(terminal=False, args=["/bin/busybox", "sh", "-c", "echo ran inside"])
spec["linux"]["resources"]["memory"] = {"limit": 33554432}
json.dump(spec, open("config.json", "w"))
P
runc run --keep probe </dev/null
runc delete -f probe
nerdctl --namespace probe ps -q
"""
    assert world.run("worker1", script) == "ran inside"
