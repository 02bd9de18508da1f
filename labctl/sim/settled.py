"""Whether spec equals status everywhere: what is left to do, in words. Asked once faults have stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from labctl.kube.resources import (
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    JOBS,
    NODES,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
)
from labctl.sim.invariants import healthy, standing
from labctl.sim.load import QUOTAS
from labctl.sim.world import World

Document = dict[str, Any]


def unsettled(world: World) -> str:
    """The first thing that is not as its spec wants it, "" where everything is."""
    return next(_differences(world), "")


def _differences(world: World) -> Iterator[str]:
    pods = list(standing(world, PODS).values())
    yield from _nodes(world)
    yield from _pods(world, pods)
    room = _room(world, pods)
    for resource in (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS, JOBS):
        for item in standing(world, resource).values():
            for told in _workload(item, world, room):
                yield f"{resource.kind} {item['metadata']['name']}: {told}"
    yield from _endpoints(world, pods)


def _nodes(world: World) -> Iterator[str]:
    for node in standing(world, NODES).values():
        ready = [entry["status"] for entry in node["status"].get("conditions") or () if entry["type"] == "Ready"]
        taints = {taint["key"] for taint in node["spec"].get("taints") or ()} - {"node.kubernetes.io/unschedulable"}
        if ready != ["True"] or taints:
            yield f"node {node['metadata']['name']} is not ready, or tainted"


def _pods(world: World, pods: list[Document]) -> Iterator[str]:
    bound: Counter[str] = Counter()
    for pod in pods:
        meta = pod["metadata"]
        name, owners = meta["name"], meta.get("ownerReferences") or ()
        if meta.get("deletionTimestamp"):
            yield f"pod {name} is terminating still"
        if owners and not _owned(world, owners[0]):
            yield f"pod {name} outlives its owner"
        if pod["status"].get("phase") == "Running":
            bound[meta["uid"]] += 1
            if not healthy(pod):
                yield f"pod {name} is not ready"
        elif pod["status"].get("phase") != "Succeeded" and "nodeName" in pod["spec"]:
            yield f"pod {name} is {pod['status'].get('phase')}"
    for machine in world.machines.values():
        for status in machine.runtime.statuses():
            if status.phase == "running":
                bound[status.pod.uid] -= 1
                if bound[status.pod.uid]:
                    yield f"container {status.name} of {status.pod.name} runs on {machine.name} for nobody"
    if lost := [uid for uid, count in bound.items() if count]:
        yield f"pod {lost[0][:8]} is said to run, and nothing runs"


def _owned(world: World, owner: Document) -> bool:
    kinds = {resource.kind: resource for resource in (REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS, JOBS)}
    found = standing(world, kinds[owner["kind"]]).values()
    return any(item["metadata"]["uid"] == owner["uid"] for item in found)


def _room(world: World, pods: list[Document]) -> int:
    """How many more pods the quotas let in."""
    hard = [int(item["spec"]["hard"]["pods"]) for item in standing(world, QUOTAS).values()]
    live = sum(pod["status"].get("phase") not in ("Succeeded", "Failed") for pod in pods)
    return min(hard) - live if hard else 1_000


def _workload(item: Document, world: World, room: int) -> Iterator[str]:
    spec, status = item["spec"], item.get("status") or {}
    if status.get("observedGeneration", 0) != item["metadata"].get("generation", 0) and item["kind"] != "Job":
        yield "its spec has not been seen"
    if room <= 0:
        return  # a full quota: it cannot have what it wants
    if item["kind"] == "Job":
        if status.get("succeeded", 0) != spec["completions"]:
            yield f"{status.get('succeeded', 0)} of {spec['completions']} completions"
        return
    wanted = len(world.machines) if item["kind"] == "DaemonSet" else spec["replicas"]
    fields = {
        "Deployment": ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"),
        "StatefulSet": ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"),
        "DaemonSet": ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady", "numberAvailable"),
    }[item["kind"]]
    for field in fields:
        if status.get(field, 0) != wanted:
            yield f"{field} is {status.get(field, 0)}, and {wanted} are wanted"


def _endpoints(world: World, pods: list[Document]) -> Iterator[str]:
    ready = {
        pod["status"].get("podIP") for pod in pods if healthy(pod) and pod["metadata"]["labels"].get("app") == "web"
    }
    listed = set()
    for entry in standing(world, ENDPOINT_SLICES).values():
        if entry["metadata"].get("labels", {}).get("kubernetes.io/service-name") == "web":
            listed |= {end["addresses"][0] for end in entry.get("endpoints") or () if end["conditions"]["ready"]}
    if ready != listed and listed | ready:
        yield f"Service web sends to {sorted(listed)}, and ready are {sorted(map(str, ready))}"
    for part in world.proxies.values():
        portals = [portal for portal in part.rules.portals if portal.name == "web"] if part.rules else []
        sent = {target.address for portal in portals for target in portal.everywhere}
        if portals and sent != listed:
            yield f"{part.name} sends to {sorted(sent)}, and the slices say {sorted(listed)}"
