"""Build clusters in one line."""

from __future__ import annotations

from typing import Any

import msgspec

from master.scheduler.cycle import Placed, Unschedulable, decide
from master.scheduler.loop import plugins
from master.scheduler.snapshot import PodInfo, Snapshot, in_order, node_info, pod_info
from master.scheduler.views import Node, Pod, Service

ALL = plugins()
ROOM = {"cpu": "4", "memory": "8Gi", "pods": "110"}


def node(name: str, room: dict[str, Any] | None = None, *, taints: tuple[str, ...] = (), **more: Any) -> Node:
    """A node; taints as `key=value:effect`."""
    listed = []
    for taint in taints:
        head, _, effect = taint.rpartition(":")
        key, _, value = head.partition("=")
        listed.append({"key": key, "value": value, "effect": effect})
    labels = {"kubernetes.io/hostname": name} | more.pop("labels", {})
    document = {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": listed, "unschedulable": more.pop("unschedulable", False)},
        "status": {"allocatable": ROOM if room is None else room, **more},
    }
    return msgspec.convert(document, Node)


def pod(name: str, cpu: str = "", memory: str = "", **spec: Any) -> Pod:
    """A pod of one container; `meta` adds to its metadata."""
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}"} | spec.pop("meta", {})
    container = {"image": "web:1", "resources": {"requests": requests}} | spec.pop("container", {})
    status = spec.pop("status", {})
    return msgspec.convert({"metadata": meta, "spec": {"containers": [container], **spec}, "status": status}, Pod)


def snapshot(
    nodes: list[Node],
    pending: list[Pod],
    running: dict[str, list[Pod]] | None = None,
    services: tuple[Service, ...] = (),
    **more: Any,
) -> Snapshot:
    """A moment of the cluster; `running` by node name."""
    infos = {
        item.metadata.name: node_info(item, [pod_info(one) for one in (running or {}).get(item.metadata.name, [])])
        for item in nodes
    }
    return Snapshot(infos, in_order(pod_info(item) for item in pending), services, **more)


def placed(seen: Snapshot) -> dict[str, str]:
    """Where each pod goes; "" where it fits nowhere."""
    return {
        decision.pod.meta.name: decision.node if isinstance(decision, Placed) else "" for decision in decide(seen, ALL)
    }


def why_not(nodes: list[Node], item: Pod, running: dict[str, list[Pod]] | None = None) -> str:
    """The message of a pod that fits nowhere."""
    (decision,) = decide(snapshot(nodes, [item], running), ALL)
    assert isinstance(decision, Unschedulable), f"placed on {decision.node}"
    return decision.message


def info(item: Pod) -> PodInfo:
    """What follows from a pod."""
    return pod_info(item)
