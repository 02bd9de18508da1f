"""The whole life of a lab in system containers, as a user lives it. The tests build on each other, in order."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.labs import LabUser, eventually, is_ready, pod_key

pytestmark = [pytest.mark.lxc, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUser]:
    someone = LabUser(tmp_path_factory.mktemp("lab"), "t-lxc", "lxc")
    try:
        someone.up()
        yield someone
    finally:
        someone.labctl("destroy", "--if-exists")


def powers(user: LabUser) -> list[dict[str, str]]:
    """What `labctl status` says of each node."""
    nodes: list[dict[str, str]] = json.loads(user.labctl("status", "-o", "json").stdout)["nodes"]
    return nodes


def containers(user: LabUser, node: str) -> list[str]:
    """The running containers of pods on a node: `namespace/pod/container`, counted inside the machine."""
    inspect = "nerdctl -n k8s.io inspect --format '{{json .Config.Labels}}'"
    listed = user.labctl("ssh", node, "--", f"nerdctl -n k8s.io ps -q | xargs -r {inspect}")
    found = []
    for line in listed.stdout.splitlines():
        labels = json.loads(line)
        if "io.kubernetes.pod.uid" in labels:
            found.append(f"{labels['io.kubernetes.pod.name']}/{labels['io.kubernetes.container.name']}")
    return sorted(found)


def test_up_ends_with_every_node_ready_and_says_what_to_type_next(user: LabUser) -> None:
    again = user.up()
    assert "provisioning" not in again.stderr  # nothing had to be done
    assert "labctl kubectl" in again.stdout
    nodes = user.json("get", "nodes")["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["worker1", "worker2"]
    for node in nodes:
        addresses = {entry["type"]: entry["address"] for entry in node["status"]["addresses"]}
        assert addresses["InternalIP"] == user.address(node["metadata"]["name"])
        assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")


def test_a_second_run_of_the_playbooks_changes_nothing(user: LabUser) -> None:
    again = user.up("--provision")
    tasks = [line for line in again.stderr.splitlines() if re.search(r" (master|worker)\d +\w+: ", line)]
    assert len(tasks) >= 3 * 4
    assert [line for line in tasks if not line.endswith("(unchanged)")] == []


def test_a_deployment_serves_on_every_nodes_port(user: LabUser) -> None:
    user.deploy_web()
    assert sum(is_ready(pod) for pod in user.pods()) == 3
    assert {pod["spec"]["nodeName"] for pod in user.pods()} == {"worker1", "worker2"}
    for node in ("worker1", "worker2"):
        assert eventually(lambda node=node: user.fetch(node), f"the NodePort of {node}")  # type: ignore[misc]


def test_pods_reach_each_other_and_services(user: LabUser) -> None:
    pods = user.pods()
    one = next(pod for pod in pods if pod["spec"]["nodeName"] == "worker1")
    other = next(pod for pod in pods if pod["spec"]["nodeName"] == "worker2")
    cluster_ip = user.json("get", "service", "web")["spec"]["clusterIP"]
    netns = f"$(ip netns list | grep -o '[^ ]*{one['metadata']['uid'].split('-')[0]}[^ ]*')"
    for target in (f"{other['status']['podIP']}:8080", f"{cluster_ip}:80"):
        user.labctl("ssh", "worker1", "--", f"ip netns exec {netns} curl -sf -m 5 http://{target}/")


def test_ssh_passes_on_the_exit_code(user: LabUser) -> None:
    assert user.labctl("ssh", "worker1", "--", "exit 7", code=7)
    assert user.labctl("ssh", "worker1", "--", "hostname").stdout.strip() == "worker1"


def test_components_come_back_from_kill_and_nothing_is_doubled_or_lost(user: LabUser) -> None:
    before = {pod_key(pod) for pod in user.pods()}
    victims = [
        ("master1", "labctl-apiserver"), ("master1", "labctl-scheduler"), ("master1", "labctl-controllers"),
        ("master1", "etcd"), ("worker1", "labctl-kubelet"), ("worker2", "labctl-proxy"),
    ]  # fmt: skip

    def works(*args: str) -> Callable[[], bool]:
        return lambda: user.kubectl(*args, code=None).code == 0

    for number, (node, unit) in enumerate(victims):
        user.labctl("ssh", node, "--", f"systemctl kill --signal=KILL --kill-whom=main {unit}")
        eventually(works("scale", "deployment/web", f"--replicas={4 - number % 2}"), f"a write after {unit} was killed")
        eventually(works("rollout", "status", "deployment/web", "--timeout=60s"), "the rollout")
    eventually(works("scale", "deployment/web", "--replicas=3"), "a write")

    def settled() -> bool:
        pods = user.pods()
        names = sorted(f"{pod['metadata']['name']}/web" for pod in pods)
        inside = sorted(containers(user, "worker1") + containers(user, "worker2"))
        return len(pods) == 3 and all(map(is_ready, pods)) and names == inside

    eventually(settled, "three pods, each with exactly one container")
    assert len(before & {pod_key(pod) for pod in user.pods()}) >= 2  # killing components moved no pod


def test_a_worker_loses_its_power_and_the_drill_passes(user: LabUser, tmp_path: Path) -> None:
    done = user.labctl("drill", "run", "worker-power-loss", "--report-dir", str(tmp_path), code=None)
    assert done.code == 0, done.stdout + done.stderr
    report = json.loads(next(tmp_path.rglob("report.json")).read_text())
    assert report["verdict"] == "pass"
    assert (report["drill"], report["provider"], report["profile"]) == ("worker-power-loss", "lxc", "fast")
    assert set(report["invariants"]) == set("ABCDEF")
    assert report["measures"]["requests_sent"] > 0
    assert next(tmp_path.rglob("*.html")).stat().st_size > 10_000


def test_what_the_drill_left_can_be_packed_played_and_compared(user: LabUser, tmp_path: Path) -> None:
    """After the drill above: every machine's logs are there, and its recorder cost less than 5% of a core."""
    user.labctl("bundle", "--file", str(tmp_path / "run.tar.gz"))
    with tarfile.open(tmp_path / "run.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    (index,) = tmp_path.rglob("flight.json")
    machines = {one["node"]: one for one in json.loads(index.read_text())["machines"]}
    assert set(machines) == {"master1", "worker1", "worker2"}
    assert all("components.log" in one["files"] for one in machines.values())
    logs = {name: (index.parent / name / "components.log").read_text() for name in machines}
    assert all(logs.values())
    assert "labctl-kubelet" in logs["worker1"] + logs["worker2"]  # the one that lost its power has started anew
    assert "table ip labctl-proxy" in (index.parent / "worker1" / "rules.nft").read_text()
    shares = [one["recorder_cpu_s"] / one["recorder_s"] for one in machines.values() if "recorder_cpu_s" in one]
    assert shares
    assert max(shares) < 0.05
    run_dir = str(index.parents[1])
    assert "(detected)" in user.labctl("drill", "replay", run_dir).stdout
    assert "2 of 2 passed" in user.labctl("drill", "compare", run_dir, run_dir).stdout


def test_a_drill_whose_runner_is_killed_leaves_a_healed_lab(user: LabUser) -> None:
    pending = user.home / ".labctl" / user.name / "drills" / "undo.json"
    runner = user.start("drill", "run", "worker-power-loss")
    try:
        eventually(lambda: pending.exists() and '"power-on"' in pending.read_text(), "the undo on disk", 180)
        eventually(lambda: "off" in {node["power"] for node in powers(user)}, "the power to go")
    finally:
        runner.kill()
        runner.wait()
    eventually(lambda: {node["power"] for node in powers(user)} == {"running"}, "the dead-man to heal", 180)
    eventually(lambda: not pending.exists(), "nothing more to be undone", 180)
    healed = user.labctl("heal", code=None)
    assert healed.code == 0, healed.stderr
    assert "no drill left anything behind" in healed.stdout
    eventually(lambda: sum(is_ready(pod) for pod in user.pods()) == 3, "three ready pods", 120)
    eventually(lambda: {node["ready"] for node in powers(user) if node["role"] == "worker"} == {"True"}, "the workers")


def test_the_same_cluster_is_drilled_as_one_that_labctl_did_not_make(user: LabUser, tmp_path: Path) -> None:
    state = user.home / ".labctl" / user.name
    nodes = "".join(f"  - {{node: {name}, host: {user.address(name)}}}\n" for name in ("worker1", "worker2"))
    inventory = tmp_path / "hosts.yaml"
    inventory.write_text(
        f"key: {state}/ssh/id_ed25519\nknown_hosts: {state}/ssh/known_hosts\n"
        f"units: {{kubelet: labctl-kubelet.service}}\nhosts:\n{nodes}"
    )
    where = ("--kubeconfig", str(state / "kubeconfig"), "--inventory", str(inventory), "--profile", "fast")
    listed = json.loads(user.labctl("drill", "list", *where, "-o", "json").stdout)
    why = {one["name"]: one["impossible"] for one in listed}
    assert why["kubelet-freeze"] == ""
    assert "power_off" in why["worker-power-loss"]
    plan = ("drill", "run", "kubelet-freeze", *where, "--dry-run")
    eventually(lambda: user.labctl(*plan).code == 0, "a plan that could begin")  # its predecessor's pods may still end
    image = ("--stateful-image", "lab.local/web:1")  # there is no registry to pull the default one from
    done = user.labctl("drill", "run", "kubelet-freeze", *where, *image, "--report-dir", str(tmp_path), code=None)
    assert done.code == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["verdict"], report["provider"]) == ("pass", "foreign")
    assert report["invariants"]["B"]["result"] != "unknown"
    shutil.rmtree(user.home / ".labctl" / "clusters")  # what is kept of another's cluster is no part of the lab


def test_halt_and_up_bring_back_the_same_pods_at_the_same_addresses(user: LabUser) -> None:
    before = {pod_key(pod) for pod in user.pods()}
    addresses = [user.address(node) for node in ("master1", "worker1", "worker2")]
    user.labctl("halt")
    user.up()
    eventually(lambda: len([p for p in user.pods() if is_ready(p)]) == 3, "three ready pods", 120)
    assert {pod_key(pod) for pod in user.pods()} == before
    assert [user.address(node) for node in ("master1", "worker1", "worker2")] == addresses
    assert eventually(lambda: user.fetch("worker2"), "the NodePort")


def test_deleting_the_workload_leaves_no_container(user: LabUser) -> None:
    user.kubectl("delete", "-f", str(Path(__file__).parents[2] / "examples" / "web.yaml"))
    eventually(lambda: not user.pods(), "the pods to go")
    eventually(lambda: not containers(user, "worker1") + containers(user, "worker2"), "the containers to go")


def test_destroy_leaves_nothing(user: LabUser) -> None:
    user.labctl("destroy")
    left = [path.name for path in (user.home / ".labctl").glob("*")]
    assert left in ([], ["clusters"])  # the record of what was drilled as foreign is no part of the lab
    devices = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert "lab-t-lxc" not in devices
    assert "t-lxc" not in Path("/proc/mounts").read_text()
