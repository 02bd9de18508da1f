"""Drills against a cluster that labctl did not make: our own control plane, known by its kubeconfig alone."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from labctl import cli
from labctl.drills import identity, lease, workload
from labctl.drills.build import drill_of
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.findings import Result
from labctl.drills.foreign import PROVIDER, ForeignTarget, fitted, lacking
from labctl.drills.language import parse
from labctl.drills.model import Options, Verdict
from labctl.drills.plan import propose
from labctl.drills.records import Entry, PhaseBegan
from labctl.drills.runner import run
from labctl.drills.target import open_target
from labctl.drills.ui import Silent
from labctl.drills.workload import Image
from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.errors import ApiError
from labctl.kube.resources import CONFIG_MAPS, LEASES, NAMESPACES, NODES, PODS, SERVICES, STATEFUL_SETS
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.shell import Output
from tests.e2e.controlplane.plane import Plane
from tests.e2e.drills.world import World, line_of

FILE = """
name: lose-pods
steps:
  - {do: delete-pods, on: [$victim], number: 3}
checks: [nodes-ready]
load: {stateful: none}
hold_s: 2
"""
QUICK = Options(steady_s=1.0, settle_s=0.5, request_s=3.0, look_s=0.2)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    running = Plane(tmp_path, profile="kubernetes")  # its patience outlasts a busy host's stalls
    try:
        running.start("apiserver")
        running.start("scheduler", "controllers")
        yield running
    finally:
        running.stop()


def addressed(plane: Plane) -> None:
    """Give each node an address, as kubelets do."""
    for name in plane.nodes:
        status = {"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}}
        plane.client.patch(NODES, name, status, subresource="status", kind=STRATEGIC_PATCH)


def kubeconfig(plane: Plane) -> Path:
    return Path(plane.authority.kubeconfig("foreign", plane.server, "kubernetes-admin", "system:masters"))


def cluster(plane: Plane, folder: Path, inventory: str = "") -> ForeignTarget:
    path = folder / "hosts.yaml"
    path.write_text(inventory)
    return ForeignTarget(folder / "state", kubeconfig(plane), path if inventory else None, "kubernetes")


class Front:
    """Answers at the node port of a service as soon as it is there, as every node's proxy does.

    For the StatefulSet's with the uid of its pod, once that is Ready; `kept`: what it acknowledged, by uid.
    """

    def __init__(self, plane: Plane, service: str, namespace: str) -> None:
        self._plane, self._service, self._namespace = plane, service, namespace
        self.kept: list[tuple[str, str]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler(), bind_and_activate=False)
        self._server.daemon_threads = True
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        found = self._plane.until(
            "the drill's service",
            lambda: self._plane.client.get(SERVICES, self._service, self._namespace),
            deadline_s=60,
        )
        self._server.server_address = ("127.0.0.1", found["spec"]["ports"][0]["nodePort"])
        self._server.server_bind()
        self._server.server_activate()
        self._server.serve_forever()

    def close(self) -> None:
        """Free the port, which may be another service's later."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> str:
        """What the service says; "" where it fails."""
        if self._service != identity.NAME:
            return "ok"
        pod = self._plane.client.get(PODS, identity.POD, self._namespace)
        ready = [one["status"] for one in pod["status"].get("conditions", ()) if one["type"] == "Ready"]
        if ready != ["True"] or "deletionTimestamp" in pod["metadata"]:
            return ""
        self.kept.append((pod["metadata"]["uid"], path.partition("?")[2]))
        return str(pod["metadata"]["uid"])

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    said = front.answer(self.path)
                except ApiError:
                    said = ""
                self.send_response(200 if said else 503)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said.encode())

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler


class Reached(ForeignTarget):
    """Its machines are reached: each runs what the API says, and holds the records that the StatefulSet took."""

    front: Front

    def answers(self, name: str, *, timeout_s: float = 1.0) -> bool:
        return True

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        pods = [json.loads(bytes(raw)) for raw in self.client.list(PODS, field_selector=f"spec.nodeName={name}").items]
        if "for file in" in argv[-1]:
            return Output(0, "".join(f"{life} {key}\n" for life, key in self.front.kept), "")
        if "nerdctl" not in argv[-1] or "rules" not in argv[-1]:
            return Output(0, "", "")
        live = [pod for pod in pods if pod["status"].get("phase") == "Running"]
        lines = [line_of(pod["metadata"]) for pod in live if "deletionTimestamp" not in pod["metadata"]]
        return Output(0, "\n".join([*lines, "--- rules ---"]), "")


DEPLOYED = ((CONFIG_MAPS, "labctl-drill-writes"), (STATEFUL_SETS, identity.NAME), (SERVICES, identity.NAME))


def all_removed(plane: Plane, namespace: str = "default") -> bool:
    """Whether nothing is left of what a drill deploys, its lock included."""
    left = [name for kind, name in DEPLOYED if not plane.gone(kind, name, namespace)]
    return not left and plane.gone(LEASES, lease.NAME, lease.NAMESPACE) and plane.gone(NAMESPACES, lease.NAMESPACE, "")


class Second(Silent):
    """Another host, which wants to drill on the same cluster while the first one does."""

    def __init__(self, try_it: Callable[[], object]) -> None:
        self._try_it = try_it
        self.refused: list[LabError] = []

    def show(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry.what, PhaseBegan) and entry.what.name == "observe":
                try:
                    self._try_it()
                except LabError as error:
                    self.refused.append(error)


def test_a_drill_that_needs_no_machine_runs_by_the_kubeconfig_alone_and_removes_all_even_if_killed(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(plane, tmp_path / "drills")
    addressed(plane)
    target = cluster(plane, tmp_path)
    front = Front(plane, identity.NAME, "default")
    drill = fitted(drill_of(parse(FILE, "f.yaml")), target, QUICK)
    plane.until("a steady state", lambda: propose(drill, target, QUICK).exit_code == 0, deadline_s=60, every_s=0.2)
    (tmp_path / "host2").mkdir()
    other = Second(lambda: run(drill, cluster(plane, tmp_path / "host2"), QUICK))
    report = run(drill, target, QUICK, other)
    assert report.verdict is Verdict.PASS, report.reasons
    [refused] = other.refused
    assert refused.exit_code == 2
    assert re.search(r"cluster: lose-pods, by \S+, process \d+, until \d\d:\d\d:\d\d UTC at least$", str(refused))
    assert (report.provider, report.profile) == (PROVIDER, "kubernetes")
    assert report.invariants["A"].result is Result.PASS
    assert report.invariants["D"].result is Result.NOT_APPLICABLE
    assert "no ssh access" in report.invariants["D"].evidence
    assert re.search(r"no ssh access; 1 pods took \d+ records of the identity", report.invariants["B"].evidence)
    plane.until("all to be removed", lambda: all_removed(plane), deadline_s=60)
    front.close()
    killed_midway(plane, tmp_path, monkeypatch)
    world.close()


def killed_midway(plane: Plane, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of a drill that has deployed all it deploys: its dead-man removes it, and gives the Lease back."""
    (folder / "lose-pods.yaml").write_text(FILE)
    monkeypatch.setenv("LABCTL_STATE_DIR", str(folder / "killed"))
    argv = ["drill", "run", "-f", str(folder / "lose-pods.yaml"), "--kubeconfig", str(kubeconfig(plane))]
    front = Front(plane, identity.NAME, "default")
    program = [sys.executable, "-c", "from labctl.cli import main; main()"]
    with subprocess.Popen([*program, *argv], stderr=subprocess.PIPE, text=True) as runner:
        assert runner.stderr is not None
        said = next((line for line in runner.stderr if "delete" in line), "")
        runner.kill()
    assert said
    assert not all_removed(plane)
    plane.until("the dead-man to remove all", lambda: all_removed(plane), deadline_s=60)
    front.close()


def test_a_cluster_without_a_workload_gets_one_of_the_users_image_and_keeps_nothing_of_it(
    plane: Plane, tmp_path: Path
) -> None:
    for name in ("worker1", "worker2"):
        plane.node(name)
    addressed(plane)
    Front(plane, "web", workload.NAMESPACE)
    (tmp_path / "hosts.yaml").write_text("hosts: [{node: worker1}, {node: worker2}]")
    target = Reached(tmp_path / "state", kubeconfig(plane), tmp_path / "hosts.yaml", "kubernetes")
    target.front = Front(plane, identity.NAME, workload.NAMESPACE)
    options = replace(QUICK, image=Image(name="example.org/web:2", port=80))
    drill = drill_of(parse(FILE, "f.yaml"))
    assert "no --image is named" in lacking(drill, target, QUICK)
    report = run(fitted(drill, target, options), target, options)
    assert report.verdict is Verdict.PASS, report.reasons
    assert report.invariants["B"].result is Result.PASS
    assert "1 identities in" in report.invariants["B"].evidence
    assert "records that the StatefulSet acknowledged are on the disks" in report.invariants["A"].evidence
    plane.until("the drill's namespace to go", lambda: plane.gone(NAMESPACES, workload.NAMESPACE, ""), deadline_s=60)


def test_drills_that_need_machines_say_what_is_missing(plane: Plane, tmp_path: Path) -> None:
    world = World(plane, tmp_path / "drills")
    addressed(plane)
    bare = cluster(plane, tmp_path)
    why = lacking(DRILL, bare, QUICK)
    assert "no power_off and no power_on command for worker" in why
    with pytest.raises(UsageError, match="cannot run on foreign"):
        run(fitted(DRILL, bare, QUICK), bare, QUICK)
    frozen = drill_of(parse("name: f\nsteps:\n  - {do: freeze, node: worker1, component: kubelet}\n", "f.yaml"))
    assert lacking(frozen, bare, QUICK) == "no ssh access to worker1"
    commands = "power_off: 'true', power_on: 'true'"
    powered = f"hosts:\n  - {{node: worker1, {commands}}}\n  - {{node: worker2, {commands}}}\n"
    reached = cluster(plane, tmp_path, powered)
    assert lacking(DRILL, reached, QUICK) == ""
    assert lacking(frozen, reached, QUICK) == ""
    world.close()


def test_an_inventory_of_another_cluster_is_misuse(plane: Plane, tmp_path: Path) -> None:
    plane.node("worker1")
    target = cluster(plane, tmp_path, "hosts: [{node: nobody}]\n")
    with pytest.raises(UsageError, match="'nobody', which is no node") as caught:
        fitted(DRILL, target, QUICK)
    assert "worker1" in caught.value.hint


def test_a_kubeconfig_whose_user_logs_in_by_a_program_is_refused(plane: Plane, tmp_path: Path) -> None:
    config = yaml.safe_load(kubeconfig(plane).read_text())
    config["users"][0]["user"] = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "login"}}
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    with pytest.raises(UsageError, match="neither a certificate nor a token"):
        ForeignTarget(tmp_path, tmp_path / "config", None, "fast")


def test_the_dead_man_opens_the_same_cluster(plane: Plane, tmp_path: Path) -> None:
    plane.node("worker1")
    target = cluster(plane, tmp_path, "hosts: [{node: worker1}]\n")
    again = open_target(target.reopen)
    assert (again.lab, again.drills_dir, again.profile) == (target.lab, target.drills_dir, target.profile)
    assert again.machines() == target.machines()


def test_power_is_switched_by_the_users_own_commands(plane: Plane, tmp_path: Path) -> None:
    plane.node("worker1")
    target = cluster(
        plane, tmp_path, f"hosts: [{{node: worker1, power_off: 'echo off > {tmp_path}/said', power_on: 'exit 3'}}]\n"
    )
    target.power_off("worker1")
    assert (tmp_path / "said").read_text() == "off\n"
    with pytest.raises(LabError, match="exited with 3"):
        target.power_on("worker1")
    with pytest.raises(LabError, match="no command for suspend"):
        target.suspend("worker1")


def test_the_list_says_which_drills_can_run_there(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(plane, tmp_path / "drills")
    addressed(plane)
    monkeypatch.setenv("LABCTL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("sys.argv", ["labctl", "drill", "list", "--kubeconfig", str(kubeconfig(plane)), "-o", "json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    found = {one["name"]: one["impossible"] for one in json.loads(capsys.readouterr().out)}
    assert "power_off" in found["worker-power-loss"]
    assert "no ssh access" in found["kubelet-freeze"]
    world.close()
