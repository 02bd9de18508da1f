"""A pod's status from what is seen of it, with upstream's phases, conditions and reasons. Pure.

`render` returns the fields the kubelet owns; conditions of others are kept as they are. A condition's
lastTransitionTime moves only when its status does. Source: k/k `pkg/kubelet/kubelet_pods.go`, `status/generate.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agents.kubelet import seen as look
from agents.kubelet.qos import qos_class
from agents.kubelet.runtime import ContainerStatus
from agents.kubelet.seen import Seen
from agents.kubelet.views import Container, Pod, PriorContainer
from labctl.kube.timing import Profile
from labctl.runtime.clock import rfc3339

Document = dict[str, Any]
_ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when a status is written: this node's address, its timing, the stamp for what changes now."""

    host_ip: str
    timing: Profile
    now: datetime


def render(pod: Pod, seen: Seen, base: Mapping[str, Any], place: Place) -> Document:
    """The pod's status now; `base` is the status the API has. Fields that must go are None."""
    refusal = seen.rejection is not None and not seen.rejection.disrupts
    refused = refusal and not seen.containers  # never came as far as having containers
    inits = [_container(pod, seen, c, place) for c in pod.spec.init_containers if not refused]
    mains = [_container(pod, seen, c, place) for c in pod.spec.containers if not refused]
    phase = _phase(pod, seen)
    shown, (reason, message) = phase, _why(pod, seen)
    if phase in _ENDED and pod.status.phase not in _ENDED and look.alive(seen):
        shown, reason, message = pod.status.phase or "Pending", "", ""  # not before its last container has ended
    address = _address(pod, seen, base, place)
    return {
        "phase": shown,
        "conditions": _conditions(pod, seen, phase, base, place),
        "startTime": base.get("startTime") or rfc3339(place.now),
        "hostIP": place.host_ip,
        "hostIPs": [{"ip": place.host_ip}],
        "podIP": address or None,
        "podIPs": [{"ip": address}] if address else None,
        "qosClass": base.get("qosClass") or qos_class(pod),
        "initContainerStatuses": inits or None,
        "containerStatuses": mains or None,
        "reason": reason or base.get("reason"),
        "message": message or base.get("message"),
        "observedGeneration": pod.metadata.generation or None,
    }


def changes(base: Mapping[str, Any], wanted: Mapping[str, Any]) -> Document:
    """The merge patch of `status` that turns `base` into `wanted`; empty where nothing differs."""
    return {key: value for key, value in wanted.items() if base.get(key) != value}


def _why(pod: Pod, seen: Seen) -> tuple[str, str]:
    if seen.rejection is not None:
        return seen.rejection.reason, seen.rejection.message
    if pod.status.phase not in _ENDED and look.deadline_passed(pod, seen):
        return "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
    return "", ""


def _address(pod: Pod, seen: Seen, base: Mapping[str, Any], place: Place) -> str:
    if seen.sandbox is not None:
        return place.host_ip if pod.spec.host_network else seen.sandbox.address
    return str(base.get("podIP") or "") if _ended(pod, seen) else ""


def _ended(pod: Pod, seen: Seen) -> bool:
    return pod.terminating or bool(look.outcome(pod, seen))


# -- the phase


def _phase(pod: Pod, seen: Seen) -> str:
    if ended := look.outcome(pod, seen):
        return ended
    entries = [look.latest(seen, container.name) for container in pod.spec.containers]
    if pod.terminating and not seen.starting and not any(entry.phase == "running" for entry in seen.containers):
        clean = bool(entries) and all(entry is not None and not look.failed(entry) for entry in entries)
        return "Succeeded" if clean else "Failed"
    pairs = zip(pod.spec.containers, entries, strict=True)
    if all(entry is not None or _prior(pod, c.name).container_id for c, entry in pairs) and look.init_done(pod, seen):
        return "Running"
    return "Pending"


# -- containers


def _container(pod: Pod, seen: Seen, container: Container, place: Place) -> Document:
    entries = [entry for entry in look.of_name(seen, container.name) if entry.phase != "created"]
    entry = entries[0] if entries else None
    prior = _prior(pod, container.name)
    waiting = _waiting(pod, seen, container, entry, place.timing)
    verdict = look.verdict(seen, container, entry) if entry is not None else look.Verdict(False, False)
    document: Document = {
        "name": container.name,
        "image": (entry.image if entry else "") or container.image,
        "imageID": (entry.image_id if entry else "") or prior.image_id,
        "restartCount": entry.attempt if entry else prior.restart_count,
        "ready": verdict.ready or (container in pod.spec.init_containers and look.init_complete(seen, container)),
        "started": verdict.started,
    }
    if identity := (_identity(entry) if entry else prior.container_id):
        document["containerID"] = identity
    if entry is None and _ended(pod, seen) and "terminated" in prior.state:
        document["state"], last = prior.state, prior.last_state.get("terminated")  # its record is gone, its end stands
    elif waiting is not None:
        document["state"] = {"waiting": waiting}
        last = _terminated(seen, entry, prior) if entry is not None else _as_last(prior)
    else:
        assert entry is not None
        document["state"] = _state(seen, entry, prior)
        last = _terminated(seen, entries[1], prior) if len(entries) > 1 else _kept_last(prior, entry)
    document["lastState"] = {"terminated": last} if last else {}
    return document


def _waiting(
    pod: Pod, seen: Seen, container: Container, entry: ContainerStatus | None, timing: Profile
) -> Document | None:
    """Why the container does not run, where that is for now; None where its own state says it all."""
    if entry is not None and entry.phase == "running":
        return None
    failure = seen.failures.get(container.name)
    if entry is not None and (_ended(pod, seen) or not look.should_restart(pod, container, entry)):
        return None
    if failure is not None:
        return _failed_start(container, failure, seen, timing)
    if entry is None:
        initial = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
        return {"reason": initial}
    left_s = look.restart_wait_s(seen, entry, timing)
    if left_s <= 0:
        return None
    delay = _go_duration(look.crash_backoff_s(seen, entry, timing))
    meta = pod.metadata
    which = f"container={container.name} pod={meta.name}_{meta.namespace}({meta.uid})"
    return {"reason": "CrashLoopBackOff", "message": f"back-off {delay} restarting failed {which}"}


def _failed_start(container: Container, failure: look.Failure, seen: Seen, timing: Profile) -> Document:
    """The failure itself at first, then that we back off from the image."""
    fresh = seen.now_s < failure.at_s + timing.restart_backoff_s / 2
    if failure.reason in {"ErrImagePull", "ImageInspectError"} and not fresh:
        words = f'Back-off pulling image "{container.image}": {failure.message}'
        return {"reason": "ImagePullBackOff", "message": words}
    return {"reason": failure.reason, "message": failure.message}


def _state(seen: Seen, entry: ContainerStatus, prior: PriorContainer) -> Document:
    if entry.phase == "running":
        started = _stamp(entry.started_s)
        return {"running": {"startedAt": started} if started else {}}
    return {"terminated": _terminated(seen, entry, prior)}


def _terminated(seen: Seen, dead: ContainerStatus, prior: PriorContainer) -> Document:
    """How it ended. What was told of that once stands: of a machine that lost power nobody knows the moment."""
    for told in (prior.state.get("terminated"), prior.last_state.get("terminated")):
        if isinstance(told, dict) and told.get("containerID") == _identity(dead):
            return told
    reason = "OOMKilled" if dead.oom_killed else "Error" if dead.exit_code else "Completed"
    document: Document = {
        "exitCode": dead.exit_code,
        "reason": reason,
        "startedAt": _stamp(dead.started_s),
        "finishedAt": _stamp(dead.finished_s),
        "containerID": _identity(dead),
    }
    if message := seen.messages.get(dead.id):
        document["message"] = message
    return {key: value for key, value in document.items() if value is not None}


def _kept_last(prior: PriorContainer, entry: ContainerStatus) -> Document:
    """What we told before of an earlier instance that the runtime no longer knows."""
    if prior.container_id == _identity(entry):
        last = prior.last_state.get("terminated")
    else:
        last = prior.state.get("terminated") or prior.last_state.get("terminated")
    same = isinstance(last, dict) and last.get("containerID") == _identity(entry)
    return last if isinstance(last, dict) and not same else {}


def _as_last(prior: PriorContainer) -> Document:
    last = prior.state.get("terminated") or prior.last_state.get("terminated")
    return last if isinstance(last, dict) else {}


def _prior(pod: Pod, name: str) -> PriorContainer:
    found = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    return next((prior for prior in found if prior.name == name), PriorContainer(name=name))


def _identity(entry: ContainerStatus) -> str:
    return f"containerd://{entry.id}"


def _stamp(epoch_s: float) -> str | None:
    return rfc3339(datetime.fromtimestamp(epoch_s, UTC)) if epoch_s else None


def _go_duration(seconds: float) -> str:
    """As Go prints it: `10s`, `1m20s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


# -- conditions


def _conditions(pod: Pod, seen: Seen, phase: str, base: Mapping[str, Any], place: Place) -> list[Document]:
    before = {str(entry.get("type")): dict(entry) for entry in base.get("conditions") or ()}
    unready = [c.name for c in pod.spec.containers if not _ready(seen, c)]
    unready += [c.name for c in pod.spec.init_containers if look.is_sidecar(c) and not _ready(seen, c)]
    ready = _readiness(phase, unready)
    gates = [g.condition_type for g in pod.spec.readiness_gates]
    closed = [gate for gate in gates if before.get(gate, {}).get("status") != "True"]
    gated = ready
    if ready[0] == "True" and closed:
        words = "corresponding condition of pod readiness gate " + ", ".join(f'"{gate}"' for gate in closed)
        gated = ("False", "ReadinessGatesNotReady", f"{words} does not exist or is not True.")
    mine = {
        "PodReadyToStartContainers": ("True" if seen.sandbox is not None else "False", "", ""),
        "Initialized": _initialized(pod, seen, phase),
        "Ready": gated,
        "ContainersReady": ready,
    }
    if "PodScheduled" not in before:
        mine["PodScheduled"] = ("True", "", "")
    if phase in _ENDED and pod.status.phase == phase and not pod.terminating and "Ready" in before:
        mine = {"PodReadyToStartContainers": mine["PodReadyToStartContainers"]}  # a finished pod's verdict stands
    if seen.rejection is not None and seen.rejection.disrupts:
        mine["DisruptionTarget"] = ("True", "TerminationByKubelet", seen.rejection.message)
    told = [_condition(pod, kind, value, before.get(kind), place) for kind, value in mine.items()]
    return _in_order(before, told)


def _in_order(before: Mapping[str, Document], told: Sequence[Document]) -> list[Document]:
    """The API's order is kept and new ones follow, so that nothing changes where nothing changed."""
    fresh = {str(entry["type"]): entry for entry in told}
    kept = [fresh.pop(kind, entry) for kind, entry in before.items()]
    return [*kept, *fresh.values()]


def _condition(pod: Pod, kind: str, value: tuple[str, str, str], old: Document | None, place: Place) -> Document:
    status, reason, message = value
    same = old is not None and old.get("status") == status
    document: Document = dict(old or {"type": kind})
    document["status"] = status
    if not same:
        document["lastTransitionTime"] = rfc3339(place.now)
    for key, text in (("reason", reason), ("message", message)):
        document.pop(key, None)
        if text:
            document[key] = text
    if pod.metadata.generation:
        document["observedGeneration"] = pod.metadata.generation
    return document


def _ready(seen: Seen, container: Container) -> bool:
    entry = look.latest(seen, container.name)
    return entry is not None and look.verdict(seen, container, entry).ready


def _readiness(phase: str, unready: Sequence[str]) -> tuple[str, str, str]:
    if phase == "Succeeded":
        return "False", "PodCompleted", ""
    if phase == "Failed":
        return "False", "PodFailed", ""
    if unready:
        return "False", "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return "True", "", ""


def _initialized(pod: Pod, seen: Seen, phase: str) -> tuple[str, str, str]:
    if phase == "Succeeded":
        return "True", "PodCompleted", ""
    if look.init_done(pod, seen) or not pod.spec.init_containers:
        return "True", "", ""
    left = [c.name for c in pod.spec.init_containers if not look.init_complete(seen, c)]
    return "False", "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(left)}]"
