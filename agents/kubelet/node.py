"""The Node object: registered once, its status posted on change and every so often. The decisions are pure.

Source: k/k `pkg/kubelet/kubelet_node_status.go`, `nodestatus/setters.go`, `pkg/kubelet/eviction`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from agents.kubelet.config import Config
from agents.kubelet.eviction import MEMORY_BYTES, NODEFS_SHARE, Crossed
from agents.kubelet.runtime import Image
from agents.kubelet.stats import Machine
from labctl.kube import quantity
from labctl.runtime.clock import rfc3339

Document = dict[str, Any]

KUBELET_VERSION = "v1.37.0"
MAX_PODS = 110  # upstream's default
_PIDS_SHARE = 0.10
_IMAGES = 50  # as upstream's nodeStatusMaxImages
_NAMES = 5
_PRESSURES = {
    "MemoryPressure": ("KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "memory available"),
    "DiskPressure": ("KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "disk"),
    "PIDPressure": ("KubeletHasInsufficientPID", "KubeletHasSufficientPID", "PID available"),
}


@dataclass(frozen=True, slots=True)
class Health:
    """What the kubelet finds out about itself."""

    runtime_version: str  # "" while the runtime does not answer
    problem: str  # why the node cannot run pods; "" where it can
    pressures: frozenset[str] = frozenset()
    images: Sequence[Image] = ()


def capacity(config: Config, machine: Machine) -> dict[str, int]:
    """CPU in thousandths, the rest in units; the lab's own figures come before the measured ones."""
    return {
        "cpu": 1000 * (config.cpus or machine.cpus),
        "memory": config.memory_bytes or machine.memory_bytes,
        "ephemeral-storage": config.disk_bytes or machine.disk_bytes,
        "pods": MAX_PODS,
    }


def allocatable(config: Config, machine: Machine) -> dict[str, int]:
    """Capacity less what hard eviction keeps free."""
    whole = capacity(config, machine)
    return whole | {
        "memory": max(0, whole["memory"] - MEMORY_BYTES),
        "ephemeral-storage": int(whole["ephemeral-storage"] * (1 - NODEFS_SHARE)),
    }


def under_pressure(machine: Machine, short: Iterable[Crossed]) -> frozenset[str]:
    """The pressure conditions of the thresholds that are crossed now, and that of process numbers."""
    few = machine.pids_max and machine.pids >= machine.pids_max * (1 - _PIDS_SHARE)
    return frozenset({one.condition for one in short} | ({"PIDPressure"} if few else set()))


def held(now_s: float, crossed: Iterable[str], last_s: Mapping[str, float], holds_s: float) -> dict[str, float]:
    """When each pressure was last seen; it holds until it has been gone for evictionPressureTransitionPeriod."""
    kept = {kind: at_s for kind, at_s in last_s.items() if now_s - at_s < holds_s}
    return kept | dict.fromkeys(crossed, now_s)


def labels(config: Config, machine: Machine) -> dict[str, str]:
    """The labels every node has, and the lab's own."""
    return {
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/os": "linux",
        **config.labels,
    }


def document(config: Config, machine: Machine) -> Document:
    """The Node to register."""
    spec: Document = {}
    if config.taints:
        spec["taints"] = msgspec.to_builtins(config.taints)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config.node_name, "labels": labels(config, machine)},
        "spec": spec,
    }


def status(config: Config, machine: Machine, health: Health, base: Mapping[str, Any], now: datetime) -> Document:
    """The node's status; `base` is what the API has, whose conditions by others stay."""
    room = allocatable(config, machine)
    return {
        "capacity": {name: _quantity(name, amount) for name, amount in capacity(config, machine).items()},
        "allocatable": {name: _quantity(name, amount) for name, amount in room.items()},
        "conditions": _conditions(health, base, now),
        "addresses": [
            {"type": "InternalIP", "address": config.node_ip},
            {"type": "Hostname", "address": config.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.system_uuid,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel_version,
            "osImage": machine.os_image,
            "containerRuntimeVersion": health.runtime_version or _runtime_before(base),
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
        "images": [
            {"names": list(image.names[:_NAMES]), "sizeBytes": image.size_bytes}
            for image in sorted(health.images, key=lambda image: (-image.size_bytes, image.names))[:_IMAGES]
            if image.names
        ],
    }


def changed(base: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether more than heartbeats, or the way a quantity is written, differs."""
    return any(_essence(key, base.get(key)) != _essence(key, value) for key, value in wanted.items())


def _essence(key: str, value: Any) -> Any:
    if key in {"capacity", "allocatable"}:
        return {name: quantity.parse(amount) for name, amount in (value or {}).items()}
    if key != "conditions":
        return value or None
    return [{k: v for k, v in entry.items() if k != "lastHeartbeatTime"} for entry in value or ()]


def _conditions(health: Health, base: Mapping[str, Any], now: datetime) -> list[Document]:
    before = {str(entry.get("type")): entry for entry in base.get("conditions") or ()}
    told: dict[str, Document] = {}
    for kind, (bad, good, what) in _PRESSURES.items():
        on = kind in health.pressures
        words = f"kubelet has {'insufficient' if on else 'sufficient'} {what}"
        if kind == "DiskPressure":
            words = f"kubelet has {'' if on else 'no '}disk pressure"
        told[kind] = _condition(kind, ("True", bad, words) if on else ("False", good, words), before.get(kind), now)
    ready = ("False", "KubeletNotReady", health.problem)
    if not health.problem:
        ready = ("True", "KubeletReady", "kubelet is posting ready status")
    told["Ready"] = _condition("Ready", ready, before.get("Ready"), now)
    kept = [told.pop(kind, entry) for kind, entry in before.items()]
    return [*kept, *told.values()]


def _condition(kind: str, value: tuple[str, str, str], old: Mapping[str, Any] | None, now: datetime) -> Document:
    status, reason, message = value
    moved = old is None or old.get("status") != status
    return {
        "type": kind,
        "status": status,
        "lastHeartbeatTime": rfc3339(now),
        "lastTransitionTime": rfc3339(now) if moved or old is None else old.get("lastTransitionTime"),
        "reason": reason,
        "message": message,
    }


def _quantity(name: str, amount: int) -> str:
    """As upstream prints it: whole CPUs, memory in Ki."""
    if name == "cpu":
        return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"
    if name == "memory":
        return f"{amount // 1024}Ki"
    return str(amount)


def _runtime_before(base: Mapping[str, Any]) -> str:
    return str((base.get("nodeInfo") or {}).get("containerRuntimeVersion") or "")
