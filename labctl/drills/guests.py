"""Pods that a drill places on a node of its choice, and takes away again: nobody replaces them, no taint ends them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from labctl.drills.actions import DeleteObject
from labctl.drills.pace import stretched_s
from labctl.drills.target import Target
from labctl.drills.workload import IMAGE
from labctl.kube.errors import AlreadyExists, ApiError, Document
from labctl.kube.resources import PODS
from labctl.runtime.clock import Clock
from labctl.runtime.loop import wait_for

# Of the drills that place some, by provider; a cluster that labctl did not make has no such image.
IMPOSSIBLE_ON: Mapping[str, str] = {"foreign": f"it places pods of {IMAGE}, which labs alone have"}
_RUNNING_S = 60.0
_GRACE_S = 2  # process 1 of a container hears no SIGTERM unless it asks for it


def guest(
    name: str, node: str, command: Sequence[str], *, memory: str = "", priority_class: str = "", volume: bool = False
) -> Document:
    """A pod of one container; without `memory` (its request) it is BestEffort. `volume`: an emptyDir at /data."""
    container: Document = {
        "name": "guest",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
    }
    spec: Document = {
        "nodeName": node,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_S,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    if memory:
        container["resources"] = {"requests": {"memory": memory}}
    if priority_class:
        spec["priorityClassName"] = priority_class
    if volume:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        spec["volumes"] = [{"name": "data", "emptyDir": {}}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def removals(namespace: str, names: Sequence[str]) -> tuple[DeleteObject, ...]:
    """The undo."""
    return tuple(DeleteObject(plural=PODS.plural, group=PODS.group, namespace=namespace, name=name) for name in names)


def place(target: Target, namespace: str, pods: Sequence[Document]) -> None:
    """Create them; those that are there already stay."""
    for pod in pods:
        with contextlib.suppress(AlreadyExists):
            target.client.create(PODS, pod, namespace)


def await_running(target: Target, namespace: str, names: Sequence[str], clock: Clock) -> None:
    """DeadlineExceeded where one of them does not come to run."""
    wait_for(
        lambda: all(_phase(target, namespace, name) == "Running" for name in names),
        what=f"{' and '.join(names)} to run",
        deadline_s=stretched_s(_RUNNING_S, target.slowness),
        clock=clock,
    )


def _phase(target: Target, namespace: str, name: str) -> str:
    with contextlib.suppress(ApiError):  # an API server that is late for once is asked again
        status: Mapping[str, object] = target.client.get(PODS, name, namespace).get("status") or {}
        return str(status.get("phase", ""))
    return ""
