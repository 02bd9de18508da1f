"""The Pod columns: readiness, the status word, restarts. Source: `printers.go` (printPod)."""

from __future__ import annotations

from typing import Any

from master.apiserver.columns import AGE, Column, Shown, wide

Document = dict[str, Any]


def _sidecars(spec: Document) -> set[str]:
    return {entry["name"] for entry in spec.get("initContainers") or () if entry.get("restartPolicy") == "Always"}


def ready(shown: Shown) -> str:
    """`ready/total`, counting containers and restartable init containers."""
    sidecars = _sidecars(shown.spec)
    total = len(shown.spec.get("containers") or ()) + len(sidecars)
    statuses = [
        *(shown.status.get("containerStatuses") or ()),
        *(entry for entry in shown.status.get("initContainerStatuses") or () if entry.get("name") in sidecars),
    ]
    return f"{sum(1 for entry in statuses if entry.get('ready'))}/{total}"


def _restarts(shown: Shown) -> str:
    sidecars = _sidecars(shown.spec)
    if _initializing(shown) is not None:
        entries = shown.status.get("initContainerStatuses") or ()
    else:
        entries = [
            *(shown.status.get("containerStatuses") or ()),
            *(entry for entry in shown.status.get("initContainerStatuses") or () if entry.get("name") in sidecars),
        ]
    count = sum(int(entry.get("restartCount", 0)) for entry in entries)
    ended = [
        stamp
        for entry in entries
        if (stamp := ((entry.get("lastState") or {}).get("terminated") or {}).get("finishedAt"))
    ]
    return f"{count} ({shown.since(max(ended))} ago)" if count and ended else str(count)


def _initializing(shown: Shown) -> str | None:
    """The status word while init containers are at work; None once they are done."""
    specs = {entry["name"]: entry for entry in shown.spec.get("initContainers") or ()}
    total = len(specs)
    for at, entry in enumerate(shown.status.get("initContainerStatuses") or ()):
        state = entry.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated is not None and terminated.get("exitCode") == 0:
            continue
        if specs.get(entry.get("name"), {}).get("restartPolicy") == "Always" and entry.get("started"):
            continue
        if terminated is not None:
            return f"Init:{_ended(terminated)}"
        if waiting and waiting.get("reason") not in {None, "", "PodInitializing"}:
            return f"Init:{waiting['reason']}"
        return f"Init:{at}/{total}"
    return None


def _ended(terminated: Document) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def status_word(shown: Shown) -> str:
    """The STATUS column."""
    status = shown.status
    word = status.get("reason") or status.get("phase") or ""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            word = "SchedulingGated"
    starting = _initializing(shown)
    word = starting if starting is not None else _running_word(shown, word)
    if shown.metadata.get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if status.get("phase") not in {"Succeeded", "Failed"}:
            return "Terminating"
    return str(word)


def _running_word(shown: Shown, word: str) -> str:
    running = False
    for entry in reversed(shown.status.get("containerStatuses") or ()):
        state = entry.get("state") or {}
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            word = waiting["reason"]
        elif terminated is not None:
            word = _ended(terminated)
        elif entry.get("ready") and state.get("running") is not None:
            running = True
    if word == "Completed" and running:
        conditions = shown.status.get("conditions") or ()
        ready = any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)
        return "Running" if ready else "NotReady"
    return word


def _gates(shown: Shown) -> str:
    gates = shown.spec.get("readinessGates") or ()
    if not gates:
        return "<none>"
    held = {entry.get("type") for entry in shown.status.get("conditions") or () if entry.get("status") == "True"}
    return f"{sum(1 for gate in gates if gate.get('conditionType') in held)}/{len(gates)}"


def _ip(shown: Shown) -> str:
    addresses = shown.status.get("podIPs") or ()
    return str(addresses[0].get("ip", "<none>") if addresses else shown.status.get("podIP") or "<none>")


COLUMNS: dict[tuple[str, str], tuple[Column, ...]] = {
    ("", "pods"): (
        Column("Ready", ready),
        Column("Status", status_word),
        Column("Restarts", _restarts),
        AGE,
        wide("IP", _ip),
        wide("Node", lambda shown: shown.spec.get("nodeName") or "<none>"),
        wide("Nominated Node", lambda shown: shown.status.get("nominatedNodeName") or "<none>"),
        wide("Readiness Gates", _gates),
    ),
}
