"""The decisions alone: from what is seen of a pod to what is done next, and what is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from agents.kubelet.memory import Memory
from agents.kubelet.plan import (
    CleanUp,
    DeletePod,
    Forget,
    MakeSandbox,
    PrepareVolumes,
    Remove,
    RemoveSandbox,
    Start,
    Stop,
    plan,
)
from agents.kubelet.runtime import ContainerStatus, PodRef, Sandbox
from agents.kubelet.seen import SANDBOX, SANDBOX_SLOT, STREAK, Failure, Rejection, Seen, Verdict, sandbox_label
from agents.kubelet.status import Place, changes, render
from agents.kubelet.views import Pod, PodStatus
from labctl.kube.timing import FAST, KUBERNETES
from tests.unit.agents.kubelet.world import container, pod

NOW_S, STAMP = 1_000.0, datetime(2026, 1, 1, 12, tzinfo=UTC)
REF = PodRef("uid-web", "default", "web")
BOX = Sandbox(REF, "10.244.1.5", "/run/netns/x", 50.0)
UP = Seen(now_s=NOW_S, sandbox=BOX, volumes_ready=True)


def view(deleting: int | None = None, **spec: Any) -> Pod:
    document = pod(**spec)
    if deleting is not None:
        document["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": deleting}
    return msgspec.convert(document, Pod)


def one(name: str = "app", attempt: int = 0, phase: Any = "running", **fields: Any) -> ContainerStatus:
    labels = {SANDBOX: sandbox_label(BOX), STREAK: str(fields.pop("streak", 0)), **fields.pop("labels", {})}
    if phase == "exited":
        fields = {"started_s": 100.0, "finished_s": 101.0, **fields}
    return ContainerStatus(f"{name}-{attempt}", REF, name, attempt, phase, "web:1", "sha256:1", labels=labels, **fields)


def steps(pod: Pod, seen: Seen, timing: Any = FAST) -> tuple[Any, ...]:
    return plan(pod, seen, timing).instructions


def test_a_new_pod_gets_network_and_volumes_side_by_side() -> None:
    assert steps(view(), Seen(now_s=NOW_S)) == (MakeSandbox(), PrepareVolumes())


def test_nothing_is_proposed_twice() -> None:
    assert steps(view(), Seen(now_s=NOW_S, busy=frozenset({"sandbox", "volumes"}))) == ()
    assert steps(view(), replace(UP, starting=frozenset({"app"}))) == ()


def test_all_containers_start_together() -> None:
    both = view(containers=[container("a"), container("b")])
    assert steps(both, UP) == (Start("a", 0, 0), Start("b", 0, 0))


def test_a_running_pod_needs_nothing() -> None:
    assert plan(view(), replace(UP, containers=(one(),)), FAST).instructions == ()


def test_the_first_restart_is_at_once_and_the_second_waits() -> None:
    first = replace(UP, containers=(one(phase="exited"),))
    assert steps(view(), first) == (Start("app", 1, 1),)
    second = replace(UP, containers=(one(attempt=1, phase="exited", streak=1),), exited_s={"app-1": NOW_S})
    decided = plan(view(), second, KUBERNETES)
    assert (decided.instructions, decided.wake_after_s) == ((), 10.0)
    assert steps(view(), replace(second, now_s=NOW_S + 10), KUBERNETES) == (Start("app", 2, 2),)


def test_a_container_that_lasted_ten_minutes_starts_with_a_clean_record() -> None:
    lasted = one(attempt=7, phase="exited", streak=7, started_s=100.0, finished_s=701.0)
    assert steps(view(), replace(UP, containers=(lasted,))) == (Start("app", 8, 1),)


def test_what_self_fencing_stopped_starts_again_at_once_and_is_no_worse_for_it() -> None:
    stopped = one(attempt=3, phase="exited", streak=2, exit_code=137)
    seen = replace(UP, containers=(stopped,), exited_s={"app-3": NOW_S}, spared=frozenset({"app-3"}))
    assert steps(view(), seen) == (Start("app", 4, 2),)


@pytest.mark.parametrize(
    ("dies_s", "seen_s", "looked", "code", "spared"),
    [
        pytest.param(95.0, 96.0, True, 0, True, id="while held"),
        pytest.param(95.0, 101.0, True, 137, True, id="while held, and seen after"),
        pytest.param(101.0, 102.0, True, 137, False, id="after"),
        pytest.param(95.0, 96.0, False, 137, True, id="killed before our first look"),
        pytest.param(95.0, 96.0, False, 1, False, id="crashed before our first look"),
    ],
)
def test_an_end_counts_as_self_fencings_work_while_it_holds_the_pod(
    dies_s: float, seen_s: float, looked: bool, code: int, spared: bool
) -> None:
    memory = Memory(view())
    dead = one(phase="exited", started_s=50.0, finished_s=dies_s, exit_code=code)
    if looked:
        memory.hold(True, (one(),), 90.0)
        memory.see(NOW_S, (one(),), BOX, {}, True)
    for wall_s in (96.0, 100.0, 102.0):
        there = (dead,) if wall_s >= seen_s else (one(),)
        memory.hold(wall_s < 100.0, there, wall_s)
        seen = memory.see(NOW_S, there, BOX, {}, True)
    assert (dead.id in seen.spared) is spared
    assert not seen.held


def test_the_backoff_is_capped() -> None:
    tired = replace(UP, containers=(one(attempt=30, phase="exited", streak=30),), exited_s={"app-30": NOW_S})
    assert plan(view(), tired, KUBERNETES).wake_after_s == 300.0


def test_a_start_cut_short_is_removed_before_it_is_made_again() -> None:
    assert steps(view(), replace(UP, containers=(one(phase="created"),))) == (Remove("app-0"),)


def test_a_lost_sandbox_means_stopping_before_starting_again() -> None:
    lost = replace(UP, sandbox=None, containers=(one(),))
    assert [type(step) for step in steps(view(), lost)] == [Stop]
    assert steps(view(), replace(lost, containers=(one(phase="exited"),))) == (MakeSandbox(),)


def test_a_failed_sandbox_waits_its_turn() -> None:
    failed = Seen(now_s=NOW_S, volumes_ready=True, failures={SANDBOX_SLOT: Failure("x", "no", 3, NOW_S)})
    decided = plan(view(), failed, FAST)
    assert (decided.instructions, decided.wake_after_s) == ((), 4.0)


def test_a_condemned_container_is_stopped_with_its_probes_own_grace() -> None:
    ill = replace(UP, containers=(one(),), verdicts={"app-0": Verdict(True, False, "gave up", 3.0)})
    assert steps(view(), ill) == (Stop("app-0", "app", 3.0, False, "gave up"),)
    assert steps(view(), replace(ill, stopping={"app-0": NOW_S + 3})) == ()


def test_a_shorter_grace_overtakes_a_stop_under_way() -> None:
    slow = replace(UP, containers=(one(),), stopping={"app-0": NOW_S + 30})
    assert steps(view(deleting=30), slow) == ()
    assert steps(view(deleting=1), slow) == (Stop("app-0", "app", 1.0, False, "Stopping container app"),)


def test_deletion_goes_through_in_order() -> None:
    gone = view(deleting=5)
    alive = replace(UP, containers=(one(),))
    assert steps(gone, alive) == (Stop("app-0", "app", 5.0, False, "Stopping container app"),)
    dead = replace(UP, containers=(one(phase="exited"),))
    assert steps(gone, dead) == ()  # not reported yet
    reported = replace(dead, reported=True)
    assert steps(gone, reported) == (Remove("app-0"), RemoveSandbox(), CleanUp())
    assert steps(gone, replace(reported, containers=(), sandbox=None)) == (CleanUp(),)
    empty = replace(reported, containers=(), sandbox=None, clean=True)
    assert steps(gone, empty) == (DeletePod(),)
    assert steps(gone, replace(empty, busy=frozenset({"delete"}))) == ()


def test_deletion_waits_for_what_is_under_way() -> None:
    gone = view(deleting=5)
    empty = Seen(now_s=NOW_S, reported=True, clean=True)
    assert steps(gone, empty) == (DeletePod(),)
    assert steps(gone, replace(empty, starting=frozenset({"app"}))) == ()
    assert steps(gone, replace(empty, busy=frozenset({"sandbox"}))) == ()


def test_a_pod_that_the_api_forgot_is_removed_without_a_word() -> None:
    dead = replace(UP, containers=(one(phase="exited"),), removed=True)
    assert steps(view(), dead) == (Remove("app-0"), RemoveSandbox(), CleanUp())
    assert steps(view(), Seen(now_s=NOW_S, removed=True, clean=True)) == (Forget(),)


def test_sidecars_stop_after_the_containers_they_serve() -> None:
    sidecars = [container(name, restartPolicy="Always") for name in ("one", "two")]
    gone = view(deleting=5, initContainers=sidecars)
    everything = replace(UP, containers=(one("app"), one("one"), one("two")))
    assert [step.name for step in steps(gone, everything)] == ["app"]
    assert [step.name for step in steps(gone, replace(UP, containers=(one("one"), one("two"))))] == ["two"]


def test_an_init_container_of_an_older_sandbox_runs_again() -> None:
    pod = view(initContainers=[container("first")])
    before = one("first", phase="exited", labels={SANDBOX: "1.000"})
    assert steps(pod, replace(UP, containers=(before,))) == (Start("first", 1, 1),)
    assert steps(pod, replace(UP, containers=(one("first", phase="exited"),))) == (Start("app", 0, 0),)


def test_a_refused_pod_fails_without_containers() -> None:
    refused = Seen(now_s=NOW_S, rejection=Rejection("OutOfcpu", "no room"))
    assert steps(view(), refused) == ()
    told = render(view(), refused, {}, Place("10.0.0.1", FAST, STAMP))
    assert (told["phase"], told["reason"], told["containerStatuses"]) == ("Failed", "OutOfcpu", None)


@pytest.mark.parametrize(
    ("entries", "policy", "phase"),
    [
        ((), "Always", "Pending"),
        ((one("a"),), "Always", "Pending"),
        ((one("a"), one("b")), "Always", "Running"),
        ((one("a"), one("b", phase="exited")), "Never", "Running"),
        ((one("a", phase="exited"), one("b", phase="exited")), "Never", "Succeeded"),
        ((one("a", phase="exited", exit_code=1), one("b", phase="exited")), "Never", "Failed"),
        ((one("a", phase="exited", exit_code=1), one("b", phase="exited")), "OnFailure", "Running"),
        ((one("a", phase="exited"), one("b", phase="exited")), "Always", "Running"),
    ],
)
def test_the_phase_follows_from_the_containers(entries: tuple[ContainerStatus, ...], policy: str, phase: str) -> None:
    both = view(restartPolicy=policy, containers=[container("a"), container("b")])
    told = render(both, replace(UP, containers=entries), {}, Place("10.0.0.1", FAST, STAMP))
    assert told["phase"] == phase


def test_rendering_what_was_rendered_changes_nothing() -> None:
    seen = replace(UP, containers=(one(attempt=1, phase="exited", streak=3), one(phase="exited", streak=2)))
    first = render(view(), seen, {}, Place("10.0.0.1", FAST, STAMP))
    base = {key: value for key, value in first.items() if value is not None}
    later = Place("10.0.0.1", FAST, STAMP.replace(hour=13))
    assert changes(base, render(view(), seen, base, later)) == {}


def test_what_was_told_of_an_end_stands() -> None:
    here = Place("10.0.0.1", FAST, STAMP)
    once = view(restartPolicy="Never")
    base = render(once, replace(UP, containers=(one(phase="exited", exit_code=255),)), {}, here)
    again = msgspec.structs.replace(once, status=msgspec.convert({k: v for k, v in base.items() if v}, PodStatus))
    moved = replace(UP, containers=(one(phase="exited", exit_code=255, finished_s=999.0),))
    assert render(again, moved, base, here)["containerStatuses"] == base["containerStatuses"]


def test_fields_that_must_go_are_named() -> None:
    base = {"podIP": "10.244.1.9", "podIPs": [{"ip": "10.244.1.9"}]}
    told = changes(base, render(view(), replace(UP, sandbox=None), base, Place("10.0.0.1", FAST, STAMP)))
    assert told["podIP"] is None
    assert told["podIPs"] is None
