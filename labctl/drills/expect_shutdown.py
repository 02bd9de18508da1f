"""What a drill of an orderly shutdown expects: the node says so first, and its pods end in order, told why. Pure."""

from __future__ import annotations

from labctl.drills.contract import TOLERANCE_S
from labctl.drills.expect import Expectation, ending
from labctl.drills.faults_shutdown import CRITICAL, ORDINARY
from labctl.drills.findings import Case, Result, Said
from labctl.drills.records import FaultBegan, HealBegan, NodeSeen, PodSeen

_SAID = "KubeletNotReady"
_BY_KUBELET = "TerminationByKubelet"
_ENDED = frozenset({"Failed", "Succeeded"})


def not_ready_first(case: Case) -> Said:
    """The node's own word came before the first of its pods was given up or had left the Service."""
    zero = _shut_s(case)
    if zero is None:
        return Result.UNKNOWN, "no machine was shut down"
    said: dict[str, tuple[float, NodeSeen]] = {}
    for at_s, node in case.history.of(NodeSeen):
        if at_s >= zero and node.name in case.scene.victims and node.ready != "True":
            said.setdefault(node.name, (at_s, node))
    if missing := sorted(set(case.scene.victims) - set(said)):
        return Result.FAIL, f"{', '.join(missing)} never said that it was not Ready"
    if wrong := [node for _, node in said.values() if (node.ready, node.reason) != ("False", _SAID)]:
        return Result.FAIL, f"{wrong[0].name} was first seen as Ready={wrong[0].ready} ({wrong[0].reason}), not {_SAID}"
    touched = [
        (at_s, pod)
        for at_s, pod in case.history.of(PodSeen)
        if at_s >= zero and pod.node in said and (ending(pod) or pod.phase in _ENDED or not pod.ready)
    ]
    if not touched:
        return Result.UNKNOWN, "no pod of the machine was seen to end"
    for at_s, pod in touched:
        if at_s < said[pod.node][0] - TOLERANCE_S:
            return Result.FAIL, f"{pod.name} was touched {said[pod.node][0] - at_s:.2f} s before its node said why"
    first_s = min(at_s for at_s, _ in touched)
    told_s = min(at_s for at_s, _ in said.values())
    return (
        Result.PASS,
        f"not Ready {told_s - zero:.2f} s after the order, the first pod touched at {first_s - zero:.2f} s",
    )


def ended_in_order(case: Case) -> Said:
    """Every pod of the machine was ended by its kubelet, which said so; the critical one after all others."""
    zero, heal = _shut_s(case), case.history.first(HealBegan)
    if zero is None:
        return Result.UNKNOWN, "no machine was shut down"
    until_s = heal[0] if heal else float("inf")
    ended: dict[str, float] = {}
    by_kubelet: set[str] = set()
    here: dict[str, str] = {}
    for at_s, pod in case.history.of(PodSeen):
        if pod.node not in case.scene.victims or at_s >= until_s:
            continue
        gone = pod.event == "DELETED" or pod.phase in _ENDED
        if at_s < zero:
            here[pod.uid] = pod.name
            if gone:
                del here[pod.uid]
        elif pod.uid in here:
            by_kubelet |= {pod.uid} if pod.disruption == _BY_KUBELET else set()
            if gone:
                ended.setdefault(pod.uid, at_s)
    if not {ORDINARY, CRITICAL} <= set(here.values()):
        return Result.UNKNOWN, "the two pods that show the order did not run there"
    if left := sorted(name for uid, name in here.items() if uid not in ended):
        return Result.FAIL, f"not ended when the machine was off: {', '.join(left)}"
    if untold := sorted(name for uid, name in here.items() if uid not in by_kubelet):
        return Result.FAIL, f"ended without {_BY_KUBELET}: {', '.join(untold)}"
    critical_s = next(ended[uid] for uid, name in here.items() if name == CRITICAL)
    others = {name: ended[uid] for uid, name in here.items() if name != CRITICAL}
    last = max(others, key=lambda name: others[name])
    if others[last] > critical_s:
        return Result.FAIL, f"{CRITICAL} ended {others[last] - critical_s:.2f} s before {last}"
    words = f"{len(others)} ordinary pods had ended {others[last] - zero:.2f} s after the order"
    return Result.PASS, f"{words}, the critical one at {critical_s - zero:.2f} s"


def _shut_s(case: Case) -> float | None:
    """When the shutdown was ordered: the last fault, after the pods that show the order were placed."""
    return next((at_s for at_s, fault in case.history.of(FaultBegan) if fault.nodes), None)


NOT_READY_FIRST: Expectation = {"not ready first": ("The node says so before its pods end", not_ready_first)}
ENDED_IN_ORDER: Expectation = {"ended in order": ("Critical pods end last, and all are told why", ended_in_order)}
