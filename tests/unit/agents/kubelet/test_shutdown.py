"""A machine that shuts down in order: who ends when, what the API is told, and what a mere restart leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.kubelet.assembly import goes_down
from agents.kubelet.fake import Script
from agents.kubelet.shutdown import CRITICAL_PRIORITY, FLUSH_S, Guest, Progress, advance
from labctl.kube.resources import PODS
from labctl.kube.timing import FAST, KUBERNETES
from labctl.runtime.errors import LabError
from labctl.runtime.shell import LocalShell, Output
from tests.unit.agents.kubelet.world import World, container, pod

NOW_S = 1_000.0


def guest(uid: str, *, priority: int = 0, grace_s: float = 30.0, alive: bool = True, told: bool = True) -> Guest:
    return Guest(uid, priority, grace_s, alive, told)


def critical(uid: str = "dns", *, alive: bool = True) -> Guest:
    return guest(uid, priority=CRITICAL_PRIORITY, alive=alive)


def test_ordinary_pods_end_first_within_their_share_and_after_the_lead() -> None:
    orders = advance([guest("a"), guest("b", grace_s=3), critical()], None, NOW_S, KUBERNETES)
    assert {uid: (end.grace_s, end.begins_s) for uid, end in orders.ending.items()} == {
        "a": (18.0, NOW_S + 2), "b": (3, NOW_S + 2),
    }  # fmt: skip
    assert (orders.progress, orders.over, orders.wait_s) == (Progress(0, NOW_S), False, 20.0)


def test_critical_pods_end_as_soon_as_the_others_have() -> None:
    orders = advance([guest("a", alive=False), critical()], Progress(0, NOW_S), NOW_S + 5, KUBERNETES)
    assert orders.progress == Progress(1, NOW_S + 5)
    assert orders.ending["dns"].begins_s == NOW_S + 7
    assert orders.ending["dns"].grace_s == 8.0


def test_a_pod_that_does_not_end_holds_the_critical_ones_up_for_its_share_alone() -> None:
    stuck = [guest("a"), critical()]
    assert "dns" not in advance(stuck, Progress(0, NOW_S), NOW_S + 19.9, KUBERNETES).ending
    assert "dns" in advance(stuck, Progress(0, NOW_S), NOW_S + 20.0, KUBERNETES).ending


def test_it_is_over_when_all_are_dead_and_told_or_after_a_last_wait() -> None:
    dead = [guest("a", alive=False), critical(alive=False)]
    assert advance(dead, Progress(1, NOW_S), NOW_S + 1, FAST).over
    untold = [guest("a", alive=False, told=False)]
    waiting = advance(untold, Progress(1, NOW_S), NOW_S + 1, FAST)
    assert (waiting.over, waiting.wait_s) == (False, FLUSH_S)
    assert advance(untold, waiting.progress, NOW_S + 1 + FLUSH_S, FAST).over


def test_a_node_without_pods_goes_down_at_once() -> None:
    assert advance([], None, NOW_S, FAST).over


def test_pods_leave_their_services_before_they_end_and_say_why(tmp_path: Path) -> None:
    slow = pod("slow", terminationGracePeriodSeconds=3, priority=CRITICAL_PRIORITY)
    world = World(tmp_path, pod(), slow)
    world.settle()
    assert not world.sync.end_pods(within_s=0)
    world.settle()
    assert world.running() == ["slow/app:0", "web/app:0"]
    assert world.status()["phase"] == "Running"  # as long as a container runs
    assert world.condition("Ready")["status"] == "False"
    assert world.condition("DisruptionTarget")["reason"] == "TerminationByKubelet"
    assert world.condition("Ready", "slow")["status"] == "True"
    world.run(FAST.shutdown_lead_s + 0.1, every_s=0.1)
    assert world.running() == ["slow/app:0"]
    told = world.status()
    assert (told["phase"], told["reason"]) == ("Failed", "Terminated")
    assert told["message"] == "Pod was terminated in response to imminent node shutdown."
    world.run(FAST.shutdown_grace_s)
    assert world.running() == []
    assert world.status("slow")["reason"] == "Terminated"
    assert world.sync.end_pods(within_s=0)


def test_a_pod_that_is_being_deleted_ends_within_the_machines_grace(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.runtime.behave("app", Script(ignores_term=True))
    world.settle()
    world.sync.end_pods(within_s=0)
    world.settle()
    world.api.ask_to_delete("web", grace_s=600)
    world.run(FAST.shutdown_grace_s)
    assert world.running() == []
    assert world.api.deleted == ["web"]


def test_what_had_ended_by_itself_keeps_its_own_end(tmp_path: Path) -> None:
    world = World(tmp_path, pod(restartPolicy="Never", containers=[container("app", command=["true"])]))
    world.settle()
    before = world.status()
    world.sync.end_pods(within_s=0)
    world.run(FAST.shutdown_grace_s)
    assert world.status() == before


def test_a_node_that_goes_down_takes_no_pod(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.facts = type(world.facts)("10.0.0.11", {}, world.facts.allocatable, network_ready=True, shutting_down=True)
    world.api.put(PODS, pod("late"))
    world.settle()
    assert world.running() == []
    assert (world.status("late")["phase"], world.status("late")["reason"]) == ("Failed", "NodeShutdown")


def test_an_api_that_is_gone_does_not_hold_the_shutdown_up(tmp_path: Path) -> None:
    world = World(tmp_path, pod())
    world.settle()
    world.api.down = True
    world.sync.end_pods(within_s=0)
    world.run(FAST.shutdown_grace_s + FLUSH_S + 0.5)
    assert world.running() == []
    assert world.sync.end_pods(within_s=0)


class Systemd(LocalShell):
    """Says what state it is in."""

    def __init__(self, state: str) -> None:
        self.state = state

    def run(self, argv: Sequence[str], **_: object) -> Output:
        assert list(argv) == ["systemctl", "is-system-running"]
        if not self.state:
            raise LabError("no systemd here")
        return Output(0 if self.state == "running" else 1, self.state + "\n", "")


@pytest.mark.parametrize(
    ("state", "down"), [("stopping", True), ("running", False), ("degraded", False), ("starting", False), ("", False)]
)
def test_only_a_machine_that_stops_goes_down_and_not_a_kubelet_that_restarts(
    tmp_path: Path, state: str, down: bool
) -> None:
    assert goes_down(Systemd(state), str(tmp_path / "keep-pods")) is down


def test_a_lab_that_is_halted_as_a_whole_keeps_its_pods(tmp_path: Path) -> None:
    (tmp_path / "keep-pods").touch()
    assert not goes_down(Systemd("stopping"), str(tmp_path / "keep-pods"))
