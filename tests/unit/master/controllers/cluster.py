"""Run plans against the real API server in memory, with crashes between any two actions and stale worlds.

No thread, no network: a pass is a snapshot, a plan and its actions, each through the API server's own handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import msgspec

from labctl.kube.client import STRATEGIC_PATCH, Asked, Client
from labctl.kube.errors import ApiError, Document, from_status
from labctl.kube.kubeconfig import Endpoint
from labctl.kube.resources import NODES, PODS, Resource
from labctl.runtime.clock import SystemClock, rfc3339
from labctl.runtime.loop import Stop
from master.apiserver import bootstrap
from master.apiserver.app import Server
from master.apiserver.server import make_context
from master.controllers.apply import Applier
from master.controllers.protocol import Controller, Plan, Settings, Tell, World
from master.store.memory import MemoryStore
from tests.unit.master.apiserver.harness import CONFIG, Api

Invariant = Callable[["Cluster"], None]


class LocalClient(Client):
    """A client whose requests are function calls."""

    def __init__(self, api: Api) -> None:
        super().__init__(Endpoint(servers=("https://local",)))
        self._api = api

    def _exchange(self, asked: Asked, timeout_s: float | None) -> bytes:
        answer = self._api.call(asked.method, asked.target, asked.data, media=asked.content_type)
        if answer.code >= 400:
            raise from_status(answer.code, answer.document)
        return answer.body


class _Ear:
    """Hears Events."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def event(self, about: Any, kind: str, reason: str, message: str) -> None:
        self.heard.append(f"{reason}: {message}")


class Cluster:
    """An API server, a kubelet that obeys, and any number of passes."""

    def __init__(self, api: Api) -> None:
        self.client = LocalClient(api)
        self.ear = _Ear()
        self.skipped_s = 0.0
        self.memory: dict[str, Any] = {}
        self.invariants: list[Invariant] = []
        self.ready = True
        self._clock = SystemClock()
        self._applier = Applier(self.client, self.ear, {})  # type: ignore[arg-type]

    def all(self, resource: Resource, **query: Any) -> list[Document]:
        """Every object of a kind."""
        return [msgspec.json.decode(raw) for raw in self.client.list(resource, **query).items]

    def get(self, resource: Resource, name: str, namespace: str = "default") -> Document:
        """One object."""
        return self.client.get(resource, name, namespace)

    def create(self, resource: Resource, body: Document) -> Document:
        """Create an object in the namespace `default`."""
        full = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        return self.client.create(resource, full, "default" if resource.namespaced else "")

    def change(self, resource: Resource, name: str, body: Document, **options: Any) -> Document:
        """Merge-patch an object."""
        return self.client.patch(resource, name, body, "default" if resource.namespaced else "", **options)

    def observe(self, controller: Controller) -> World:
        """What the informers would know now."""
        objects: dict[Resource, dict[str, Any]] = {}
        for kind in (*controller.reads, *controller.quiet):
            items = [msgspec.json.decode(raw, type=kind.view) for raw in self.client.list(kind.resource).items]
            objects[kind.resource] = {item.metadata.key: item for item in items}
        now = self._clock.now() + timedelta(seconds=self.skipped_s)
        return World(now_s=1_000.0 + self.skipped_s, now=now, steady_since_s=0.0, settings=Settings(), objects=objects)

    def run(self, controller: Controller, *, most: int | None = None, world: World | None = None) -> Plan:
        """One pass; after `most` actions the process dies: its memory is lost, and nothing else."""
        memory = self.memory.get(controller.name, controller.memory)
        plan = controller.plan(world or self.observe(controller), memory)
        self.memory[controller.name] = plan.memory
        left = most if most is not None else -1
        for step in plan.steps:
            try:
                for action in step.actions:
                    if left == 0:
                        self.memory.pop(controller.name, None)
                        return plan
                    left -= 0 if isinstance(action, Tell) else 1
                    self._applier.perform(step, action)
                    for holds in self.invariants:
                        holds(self)
            except ApiError as error:
                self._applier.fail(step, error)
        return plan

    def settle(self, *controllers: Controller, passes: int = 40) -> None:
        """Let controllers and the kubelet take turns until nothing is written any more."""
        for _ in range(passes):
            writes = 0
            for controller in controllers:
                plan = self.run(controller)
                writes += sum(not isinstance(action, Tell) for step in plan.steps for action in step.actions)
            writes += self.kubelet()
            if not writes:
                return
        raise AssertionError(f"{[one.name for one in controllers]} did not come to rest")

    def kubelet(self, *, only: Callable[[Document], bool] = lambda _: True) -> int:
        """Start what waits, end what is to go; how many pods that changed."""
        changed = 0
        for pod in self.all(PODS):
            meta = pod["metadata"]
            if not only(pod):
                continue
            if meta.get("deletionTimestamp"):
                if meta.get("deletionGracePeriodSeconds") or not meta.get("finalizers"):
                    self.end(meta["name"])
                    changed += 1
            elif pod["status"].get("phase", "Pending") == "Pending":
                self.report(meta["name"], "Running", ready=self.ready)
                changed += 1
        return changed

    def end(self, name: str) -> None:
        """The kubelet confirms that a pod is over."""
        uid = self.get(PODS, name)["metadata"]["uid"]
        self.client.delete(PODS, name, "default", uid=uid, grace_s=0)

    def report(self, name: str, phase: str, *, ready: bool = False, **status: Any) -> None:
        """The kubelet reports a pod's phase."""
        now = rfc3339(self._clock.now() + timedelta(seconds=self.skipped_s))
        entry = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now}
        body = {"status": {"phase": phase, "conditions": [entry], **status}}
        self.client.patch(PODS, name, body, "default", subresource="status", kind=STRATEGIC_PATCH)

    def node(self, name: str, **more: Any) -> None:
        """Add a node."""
        meta = {"name": name, "labels": {"kubernetes.io/hostname": name, **more.pop("labels", {})}}
        self.create(NODES, {"metadata": meta, **more})
        self.change(NODES, name, {"spec": {"taints": more.get("spec", {}).get("taints", [])}})

    def names(self, resource: Resource = PODS) -> list[str]:
        """Names of all objects of a kind, sorted."""
        return sorted(item["metadata"]["name"] for item in self.all(resource))

    def died(self, *controllers: Controller) -> Iterator[int]:
        """Passes that die after 0, 1, 2 ... actions, each one the heir of the last; then undisturbed ones."""
        for most in range(12):
            for controller in controllers:
                self.run(controller, most=most % 4)
            self.kubelet()
            yield most


@contextmanager
def open_cluster() -> Iterator[Cluster]:
    """An empty cluster."""
    stop = Stop()
    store = MemoryStore(SystemClock())
    context = make_context(CONFIG, store, stop)
    bootstrap.run(context)
    try:
        yield Cluster(Api(Server(context)))
    finally:
        stop.set()
        store.close()
