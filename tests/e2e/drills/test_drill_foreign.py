"""Drills against a cluster that labctl did not make: our own control plane, known by its kubeconfig alone."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from labctl import cli
from labctl.drills import workload
from labctl.drills.build import drill_of
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.checkers import Result
from labctl.drills.foreign import PROVIDER, ForeignTarget, fitted, lacking
from labctl.drills.language import parse
from labctl.drills.model import Options, Verdict
from labctl.drills.plan import propose
from labctl.drills.runner import run
from labctl.drills.target import open_target
from labctl.drills.workload import Image
from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.resources import CONFIG_MAPS, NAMESPACES, NODES, SERVICES
from labctl.runtime.errors import LabError, UsageError
from tests.e2e.controlplane.plane import Plane
from tests.e2e.drills.world import World

FILE = """
name: lose-pods
steps:
  - {do: delete-pods, on: [$victim], number: 3}
checks: [nodes-ready]
hold_s: 2
"""
QUICK = Options(steady_s=1.0, settle_s=0.5, request_s=3.0, look_s=0.2, stateful=False)


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
    """Answers at the node port of the drill's own service as soon as it is there, as every node's proxy does."""

    def __init__(self, plane: Plane) -> None:
        self._plane, self._server = (
            plane,
            http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ok, bind_and_activate=False),
        )
        self._server.daemon_threads = True
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        found = self._plane.until(
            "the drill's service", lambda: self._plane.client.get(SERVICES, "web", workload.NAMESPACE), deadline_s=60
        )
        self._server.server_address = ("127.0.0.1", found["spec"]["ports"][0]["nodePort"])
        self._server.server_bind()
        self._server.server_activate()
        self._server.serve_forever()


class _Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


def test_a_drill_that_needs_no_machine_runs_by_the_kubeconfig_alone(plane: Plane, tmp_path: Path) -> None:
    world = World(plane, tmp_path / "drills")
    addressed(plane)
    target = cluster(plane, tmp_path)
    drill = fitted(drill_of(parse(FILE, "f.yaml")), target, QUICK)
    plane.until("a steady state", lambda: propose(drill, target, QUICK).exit_code == 0, deadline_s=60, every_s=0.2)
    report = run(drill, target, QUICK)
    assert report.verdict is Verdict.PASS, report.reasons
    assert (report.provider, report.profile) == (PROVIDER, "kubernetes")
    assert report.invariants["A"].result is Result.PASS
    assert report.invariants["D"].result is Result.NOT_APPLICABLE
    assert "no ssh access" in report.invariants["D"].evidence
    assert plane.gone(CONFIG_MAPS, "labctl-drill-writes")
    world.close()


def test_a_cluster_without_a_workload_gets_one_of_the_users_image_and_keeps_nothing_of_it(
    plane: Plane, tmp_path: Path
) -> None:
    for name in ("worker1", "worker2"):
        plane.node(name)
    addressed(plane)
    Front(plane)
    target = cluster(plane, tmp_path)
    options = replace(QUICK, image=Image(name="example.org/web:2", port=80))
    drill = drill_of(parse(FILE, "f.yaml"))
    assert "no --image is named" in lacking(drill, target, QUICK)
    report = run(fitted(drill, target, options), target, options)
    assert report.verdict is Verdict.PASS, report.reasons
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
