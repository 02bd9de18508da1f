"""What users do: workloads that a seed chooses, and what it does to them while the cluster runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from labctl.kube.client import STRATEGIC_PATCH, Client
from labctl.kube.errors import AlreadyExists, NotFound, TooManyRequests
from labctl.kube.resources import (
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    NODES,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
    builtin,
)
from labctl.runtime.chance import Generator

Document = dict[str, Any]

BUDGETS = builtin("poddisruptionbudgets", "policy")
QUOTAS = builtin("resourcequotas")
NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Step:
    """Something a user does, `at_s`. The `kind` names one of `_DOES`; `what` is the object's name."""

    at_s: float
    kind: str
    what: str
    value: int = 0

    def told(self) -> str:
        """In words."""
        return _SAYS[self.kind].format(what=self.what, value=self.value)


_SAYS = {
    "deployment": "creates Deployment {what} with {value} replicas, and a Service before it",
    "statefulset": "creates StatefulSet {what} with {value} replicas",
    "daemonset": "creates DaemonSet {what}",
    "job": "creates Job {what} with {value} completions",
    "budget": "creates a PodDisruptionBudget for {what}: at most {value} unavailable",
    "quota": "creates ResourceQuota {what}: at most {value} pods",
    "scale": "scales Deployment {what} to {value}",
    "scale-set": "scales StatefulSet {what} to {value}",
    "image": "rolls Deployment {what} out anew with image lab.local/web:{value}",
    "image-set": "rolls StatefulSet {what} out anew, revision {value}",
    "image-daemon": "rolls DaemonSet {what} out anew, revision {value}",
    "evict": "evicts every pod of {what} that it may",
    "delete-pod": "deletes a pod of {what}",
    "force-delete": "deletes a pod of {what} with grace 0, without waiting for its kubelet",
    "delete": "deletes Deployment {what}",
    "delete-set": "deletes StatefulSet {what}",
    "cordon": "cordons {what}",
    "uncordon": "uncordons {what}",
    "delete-node": "deletes Node {what}, whose pods go with it",
    "restart-kubelet": "has the kubelet of {what} register again",
}


def draw(rng: Generator, nodes: list[str], quiet_s: float) -> tuple[Step, ...]:
    """A seed's workloads and what is done to them before `quiet_s`."""
    steps = [Step(round(rng.uniform(0.5, 2.0), 1), "deployment", "web", rng.randint(2, 4))]
    if rng.random() < 0.75:
        steps.append(Step(round(rng.uniform(0.5, 2.0), 1), "statefulset", "db", rng.randint(1, 3)))
    for chance, kind, what, most in ((0.3, "daemonset", "agent", 0), (0.35, "job", "sum", 3)):
        if rng.random() < chance:
            steps.append(Step(round(rng.uniform(0.5, 6.0), 1), kind, what, rng.randint(min(1, most), most)))
    if rng.random() < 0.5:
        steps.append(Step(0.4, "budget", "web", 1))
    if rng.random() < 0.4:
        steps.append(Step(0.3, "quota", "room", rng.randint(5, 9)))
    there = {step.kind: step for step in steps}
    menu = ["scale", "image", "delete-pod", "evict", "evict", "force-delete"]
    menu += ["scale-set", "image-set", "delete-pod-set"] * ("statefulset" in there) + ["cordon"]
    menu += ["image", "delete-node"]
    menu += ["image-daemon"] * ("daemonset" in there)
    for _ in range(rng.randint(1, 5)):
        steps += _change(rng, rng.choice(menu), nodes, quiet_s)
    if rng.random() < 0.1:
        steps.append(Step(round(rng.uniform(8.0, quiet_s), 1), "delete", "web"))
    if rng.random() < 0.1 and "statefulset" in there:
        steps.append(Step(round(rng.uniform(8.0, quiet_s), 1), "delete-set", "db"))
    return tuple(sorted(steps, key=lambda step: step.at_s))


def _change(rng: Generator, kind: str, nodes: list[str], quiet_s: float) -> list[Step]:
    at_s = round(rng.uniform(4.0, quiet_s), 1)
    if kind == "cordon":
        node = rng.choice(nodes)
        return [Step(at_s, kind, node), Step(round(rng.uniform(at_s, quiet_s), 1), "uncordon", node)]
    if kind == "delete-node":
        node = rng.choice(nodes)
        return [Step(at_s, kind, node), Step(round(rng.uniform(at_s, quiet_s + 2.0), 1), "restart-kubelet", node)]
    if kind == "delete-pod-set":
        return [Step(at_s, "delete-pod", "db")]
    what = "db" if kind.endswith("-set") else "agent" if kind.endswith("-daemon") else "web"
    value = {"scale": rng.randint(1, 5), "scale-set": rng.randint(1, 3)}.get(kind, rng.randint(1, 2))
    return [Step(at_s, kind, what, value)]


class User:
    """Carries steps out; what the API refuses is refused."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def do(self, step: Step) -> None:
        """One step; raises ApiError where the API could not be reached."""
        name, value = step.what, step.value
        match step.kind:
            case "deployment":
                self._make(SERVICES, name, {"spec": {"selector": {"app": name}, "ports": [{"port": 80}]}})
                self._make(DEPLOYMENTS, name, {"spec": {"replicas": value, **_template(name, f"lab.local/{name}:1")}})
            case "statefulset":
                spec = {"replicas": value, "serviceName": name, **_template(name, "lab.local/db:1")}
                self._make(STATEFUL_SETS, name, {"spec": spec})
            case "daemonset":
                self._make(DAEMON_SETS, name, {"spec": _template(name, "lab.local/web:1")})
            case "job":
                template = _template(name, "lab.local/web:1", command=["sleep", "2"])["template"]
                template["spec"]["restartPolicy"] = "OnFailure"
                self._make(JOBS, name, {"spec": {"completions": value, "parallelism": 2, "template": template}})
            case "budget":
                spec = {"maxUnavailable": value, "selector": {"matchLabels": {"app": name}}}
                self._make(BUDGETS, name, {"spec": spec})
            case "quota":
                self._make(QUOTAS, name, {"spec": {"hard": {"pods": str(value)}}})
            case "evict" | "delete-pod" | "force-delete":
                self._remove(step)
            case _:
                self._alter(step)

    def _alter(self, step: Step) -> None:
        name, value = step.what, step.value
        match step.kind:
            case "scale":
                self._patch(DEPLOYMENTS, name, {"spec": {"replicas": value}})
            case "scale-set":
                self._patch(STATEFUL_SETS, name, {"spec": {"replicas": value}})
            case "image":
                containers = [{"name": "app", "image": f"lab.local/web:{value}"}]
                self._patch(DEPLOYMENTS, name, {"spec": {"template": {"spec": {"containers": containers}}}})
            case "image-set" | "image-daemon":
                resource = STATEFUL_SETS if step.kind == "image-set" else DAEMON_SETS
                annotations = {"revision": str(value)}
                self._patch(resource, name, {"spec": {"template": {"metadata": {"annotations": annotations}}}})
            case "delete" | "delete-set" | "delete-node":
                resource = {"delete": DEPLOYMENTS, "delete-set": STATEFUL_SETS}.get(step.kind, NODES)
                namespace = "" if resource == NODES else NAMESPACE
                try:
                    self._client.delete(resource, name, namespace, propagation="Background")
                except NotFound:
                    return
            case "cordon" | "uncordon":
                self._patch(NODES, name, {"spec": {"unschedulable": step.kind == "cordon" or None}}, "")

    def _remove(self, step: Step) -> None:
        found = [str(pod["metadata"]["name"]) for pod in self._pods(step.what)]
        for name in found if step.kind == "evict" else found[:1]:
            try:
                if step.kind == "evict":
                    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
                    self._client.post(PODS, name, "eviction", body, NAMESPACE)
                else:
                    self._client.delete(PODS, name, NAMESPACE, grace_s=0 if step.kind == "force-delete" else None)
            except (NotFound, TooManyRequests):
                continue

    def _pods(self, app: str) -> list[Document]:
        return [
            msgspec.json.decode(raw) for raw in self._client.list(PODS, NAMESPACE, label_selector=f"app={app}").items
        ]

    def _make(self, resource: Resource, name: str, body: Document) -> None:
        head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}}
        try:
            self._client.create(resource, head | body, NAMESPACE)
        except AlreadyExists:
            return  # an answer that was lost

    def _patch(self, resource: Resource, name: str, body: Document, namespace: str = NAMESPACE) -> None:
        try:
            self._client.patch(resource, name, body, namespace, kind=STRATEGIC_PATCH)
        except NotFound:
            return


def _template(app: str, image: str, **container: Any) -> Document:
    labels = {"app": app}
    room = {"requests": {"cpu": "100m", "memory": "64Mi"}}
    spec = {
        "terminationGracePeriodSeconds": 3,
        "containers": [{"name": "app", "image": image, "resources": room, **container}],
    }
    return {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}
