"""Three masters: each in turn loses its power, its disk, its certificates. The tests build on each other, in order."""

from __future__ import annotations

import json
import re
import shutil
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from labctl.drills.registry import catalog
from labctl.kube.client import Client
from labctl.kube.informer import Informer
from labctl.kube.resources import CONFIG_MAPS, DEPLOYMENTS
from labctl.runtime.clock import FakeClock
from labctl.runtime.loop import Stop
from labctl.vm.pki import Pki
from tests.labs import LabUser, eventually
from tests.masters import CLOCK, Writer, etcd_leader, etcdctl, holder, lab_of, lease_holder, only_address

pytestmark = [pytest.mark.lxc, pytest.mark.timeout(600)]
MASTERS = ("master1", "master2", "master3")
# Bound, and never run: what counts is what scheduler and controllers decide.
MANY = {
    "metadata": {"name": "many"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "many"}},
        "template": {
            "metadata": {"labels": {"app": "many"}},
            "spec": {"containers": [{"name": "none", "image": "lab.local/none:1", "imagePullPolicy": "Never"}]},
        },
    },
}
LEADERS: dict[str, Callable[[LabUser], str]] = {
    "etcd": etcd_leader,
    "virtual address": holder,
    "controller manager": lambda user: lease_holder(user, "kube-controller-manager"),
    "scheduler": lambda user: lease_holder(user, "kube-scheduler"),
}


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUser]:
    someone = LabUser(tmp_path_factory.mktemp("lab"), "t-ha", "lxc")
    try:
        someone.up("--masters", "3", "--workers", "2")
        yield someone
    finally:
        someone.labctl("destroy", "--if-exists")


def power_off(user: LabUser, master: str) -> None:
    lab = lab_of(user)
    lab.provider.power_off(lab.site, master)


def power_on(user: LabUser, master: str) -> None:
    lab = lab_of(user)
    lab.provider.power_on(lab.site, master)


def endpoints(user: LabUser) -> list[str]:
    found = user.json("get", "endpointslice", "kubernetes")["endpoints"]
    return sorted(address for entry in found for address in entry["addresses"])


def all_serve(user: LabUser) -> bool:
    """Every etcd member and every API server."""
    etcdctl(user, "master1", "endpoint health --cluster")
    return endpoints(user) == sorted(master.address for master in lab_of(user).topology.masters)


def created_pods(user: LabUser) -> list[str]:
    """The names in the ReplicaSet's Events, one for each pod it made; one may be lost with the master that has it."""
    events = user.json("get", "events", "--field-selector", "reason=SuccessfulCreate")["items"]
    named = (re.search(r"Created pod: (many-\S+)", event["message"]) for event in events)
    return [found[1] for found in named if found]


def test_up_makes_one_cluster_of_three_and_a_second_run_changes_nothing(user: LabUser) -> None:
    assert "provisioning" not in user.up().stderr
    eventually(lambda: all_serve(user), "three members and three API servers", 60)
    members = json.loads(etcdctl(user, "master1", "member list -w json"))["members"]
    assert sorted(member["name"] for member in members) == list(MASTERS)


def test_every_master_may_lose_its_power_under_writes(user: LabUser) -> None:
    only_address(user).create(DEPLOYMENTS, MANY, "default")
    replicas, left, roles = 2, list(MASTERS), iter(LEADERS)
    writer = Writer(user, "power")
    while left:
        # Each time one that leads something, so that all three have their turn and every kind of leader is lost.
        victim = next((v for role in roles if (v := LEADERS[role](user)) in left), left[0])
        left.remove(victim)
        writer.goes_on()
        power_off(user, victim)
        replicas += 2
        scale = ("scale", "deployment/many", f"--replicas={replicas}")
        eventually(lambda scale=scale: user.kubectl(*scale, code=None).code == 0, "a write by kubectl")  # type: ignore[misc]
        writer.goes_on()
        address = user.address(victim)
        eventually(lambda address=address: address not in endpoints(user), f"{victim} to be no endpoint")  # type: ignore[misc]

        def bound(wanted: int = replicas) -> bool:
            pods = user.pods("app=many")
            return len(pods) == wanted and all(pod["spec"].get("nodeName") for pod in pods)

        eventually(bound, f"{replicas} pods on nodes while {victim} is off")
        power_on(user, victim)
        eventually(lambda: all_serve(user), f"{victim} to serve again")
    assert writer.stop() == set()
    created, there = created_pods(user), {pod["metadata"]["name"] for pod in user.pods("app=many")}
    assert len(created) == len(set(created)) > replicas / 2
    assert set(created) <= there  # nothing was created twice, and one of them deleted again
    assert len(there) == replicas
    bindings = user.json("get", "events", "--field-selector", "reason=Scheduled")["items"]
    named = [
        event["involvedObject"]["name"] for event in bindings if event["involvedObject"]["name"].startswith("many-")
    ]
    assert len(named) == len(set(named))  # nothing was bound twice
    user.kubectl("delete", "deployment", "many")


@pytest.mark.parametrize("name", [name for name, drill in catalog().items() if drill.masters > 1])
def test_a_drill_of_several_masters_passes_and_leaves_them_well(user: LabUser, name: str) -> None:
    done = user.labctl("drill", "run", name, "-o", "json", code=None, timeout_s=400)
    assert done.code in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "pass", report["reasons"]
    eventually(lambda: all_serve(user), "every master to serve again")


def test_a_master_whose_disk_is_lost_is_made_anew_by_up(user: LabUser) -> None:
    victim = etcd_leader(user)
    before = etcdctl(user, next(m for m in MASTERS if m != victim), "member list")
    power_off(user, victim)
    shutil.rmtree(user.home / ".labctl" / user.name / "lxc" / f"{user.name}-{victim}")
    with_two = Writer(user, "disk")
    with_two.goes_on()
    assert f"{victim}  removed from etcd" in user.up().stderr
    eventually(lambda: all_serve(user), "the new member to serve")
    assert with_two.stop() == set()
    after = etcdctl(user, victim, "member list")
    assert len(set(before.splitlines()) & set(after.splitlines())) == 2
    assert after.count("started") == 3


def test_what_a_backup_has_comes_back_and_watches_go_on(user: LabUser, tmp_path: Path) -> None:
    file, stop = tmp_path / "etcd.db", Stop()
    user.kubectl("create", "configmap", "old", "--from-literal=a=1")
    assert "hash" in user.labctl("backup", str(file)).stdout
    client = Client.from_kubeconfig(str(user.home / ".labctl" / user.name / "kubeconfig"))
    seen: Informer[dict[str, object]] = Informer(client, CONFIG_MAPS, dict, namespace="default", clock=CLOCK)
    seen.start(stop)

    def known() -> set[str]:
        return {name.rpartition("/")[2] for name in seen.snapshot() if name.endswith(("/old", "/new"))}

    try:
        user.kubectl("delete", "configmap", "old")
        user.kubectl("create", "configmap", "new", "--from-literal=a=1")
        eventually(lambda: known() == {"new"}, "the changes")
        newest = int(user.json("get", "configmap", "new")["metadata"]["resourceVersion"])
        user.labctl("restore", str(file))
        eventually(lambda: known() == {"old"}, "the informer to see the old state", 120)
        user.kubectl("create", "configmap", "new", "--from-literal=a=2")
        eventually(lambda: known() == {"old", "new"}, "the informer to see what comes after")
        assert int(user.json("get", "configmap", "new")["metadata"]["resourceVersion"]) > newest
    finally:
        stop.set()
    file.write_bytes(file.read_bytes()[:-1])
    assert "no whole snapshot" in user.labctl("restore", str(file), code=2).stderr


def test_certificates_that_are_due_are_renewed_one_master_at_a_time(user: LabUser) -> None:
    lab = lab_of(user)
    for machine in lab.topology.machines:
        Pki(lab.state.dir).forget(machine)
    for name in ("apiserver.crt", "admin.crt", "etcd/client.crt"):
        Pki(lab.state.dir).path(name).unlink()
    Pki(lab.state.dir, FakeClock(now=CLOCK.now() - timedelta(days=300))).issue(lab.topology)
    due = [one["path"] for one in json.loads(user.labctl("certs", "-o", "json").stdout) if one["due"]]
    assert {"apiserver", "admin", "etcd/client", "etcd/peer-master1", "kubelet-worker1"} <= set(due)
    writer = Writer(user, "certs")
    user.up()
    writer.goes_on()
    assert writer.stop() == set()
    assert not [one for one in json.loads(user.labctl("certs", "-o", "json").stdout) if one["due"]]
    ours = x509.load_pem_x509_certificate(Pki(lab.state.dir).path("apiserver.crt").read_bytes())
    for master in lab.topology.masters:
        shown = ssl.get_server_certificate((master.address, 6443), timeout=30)
        assert x509.load_pem_x509_certificate(shown.encode()).serial_number == ours.serial_number


def test_halt_and_up_bring_back_the_same_three(user: LabUser) -> None:
    before = etcdctl(user, "master1", "member list")
    user.labctl("halt")
    assert "provisioning" not in user.up().stderr
    eventually(lambda: all_serve(user), "three members and three API servers", 60)
    assert sorted(etcdctl(user, "master1", "member list").splitlines()) == sorted(before.splitlines())
    user.kubectl("get", "configmap", "old")
    user.labctl("destroy")
    assert not (user.home / ".labctl").exists()
