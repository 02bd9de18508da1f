from __future__ import annotations

from typing import Any

from labctl.kube.resources import NODES, PODS
from master.controllers.catalog.taint_eviction import Memory, plan
from master.controllers.protocol import NEVER_S, Delete, Plan, Tell
from tests.unit.master.controllers.world import actions, node, pod, statuses, world

UNREACHABLE = "node.kubernetes.io/unreachable"


def tolerating(seconds: int | None, key: str = UNREACHABLE) -> dict[str, Any]:
    entry: dict[str, Any] = {"key": key, "operator": "Exists", "effect": "NoExecute"}
    return {"tolerations": [entry if seconds is None else {**entry, "tolerationSeconds": seconds}]}


def look(spec: dict[str, Any], memory: Memory, now_s: float, *taints: str) -> Plan:
    tainted = node("w1", taints=taints or (f"{UNREACHABLE}:NoExecute",))
    return plan(world({NODES: [tainted], PODS: [pod("a", node="w1", spec=spec)]}, now_s=now_s), memory)


def test_a_pod_without_a_toleration_goes_at_once_with_the_reason_on_it_first() -> None:
    decided = look({}, Memory(), 10.0)
    assert [type(action).__name__ for action in actions(decided)] == ["Patch", "Tell", "Delete"]
    condition = statuses(decided, PODS)["a"]["conditions"][0]
    assert (condition["type"], condition["reason"]) == ("DisruptionTarget", "DeletionByTaintManager")
    assert actions(decided, Delete)[0].uid == "uid-a"


def test_a_pod_stays_for_as_long_as_it_tolerates_the_taint_by_our_own_clock() -> None:
    first = look(tolerating(5), Memory(), 10.0)
    assert (first.steps, first.wake_after_s) == ((), 5.0)
    second = look(tolerating(5), first.memory, 14.0)
    assert (second.steps, second.wake_after_s) == ((), 1.0)
    assert actions(look(tolerating(5), second.memory, 15.0), Delete)


def test_the_first_toleration_that_fits_a_taint_decides() -> None:
    for_ever = {"tolerations": [{"operator": "Exists"}, *tolerating(5)["tolerations"]]}
    assert look(for_ever, Memory(), 10.0).wake_after_s == NEVER_S
    briefly = {"tolerations": [*tolerating(5)["tolerations"], {"operator": "Exists"}]}
    assert look(briefly, Memory(), 10.0).wake_after_s == 5.0


def test_a_toleration_without_seconds_lasts_for_ever() -> None:
    decided = look(tolerating(None), Memory(), 10.0)
    assert (decided.steps, decided.wake_after_s) == ((), NEVER_S)


def test_every_taint_must_be_tolerated() -> None:
    assert actions(look(tolerating(None), Memory(), 10.0, f"{UNREACHABLE}:NoExecute", "other:NoExecute"), Delete)


def test_a_taint_of_another_effect_evicts_nobody() -> None:
    assert look({}, Memory(), 10.0, f"{UNREACHABLE}:NoSchedule").steps == ()


def test_the_eviction_is_cancelled_when_the_taint_goes_and_starts_over_when_it_comes_back() -> None:
    first = look(tolerating(5), Memory(), 10.0)
    cancelled = look(tolerating(5), first.memory, 12.0, "other:NoSchedule")
    assert [action.message for action in actions(cancelled, Tell)] == ["Cancelling deletion of Pod default/a"]
    assert look(tolerating(5), cancelled.memory, 20.0).wake_after_s == 5.0
