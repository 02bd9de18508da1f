"""A kubelet with everything around it in memory: fake runtime, fake API, fake clock. One line makes a world."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from agents.kubelet.apply import Hands, Machine, Tools
from agents.kubelet.checks import Checker
from agents.kubelet.evictor import Evictor
from agents.kubelet.fake import FakeRuntime
from agents.kubelet.observer import Observer
from agents.kubelet.roster import Facts
from agents.kubelet.self_fencing import Unfenced
from agents.kubelet.sync import Parts, Sync
from agents.kubelet.views import Pod
from labctl.kube.client import Client, ListMeta, RawList
from labctl.kube.errors import Conflict, Document, NotFound, Unavailable
from labctl.kube.events import Recorder
from labctl.kube.resources import PODS, Resource
from labctl.kube.timing import FAST, Profile
from labctl.runtime.clock import FakeClock

ROOM = {"cpu": 4000, "memory": 8 * 2**30, "ephemeral-storage": 100 * 2**30, "pods": 110}


def pod(name: str = "web", **spec: Any) -> Document:
    """A pod bound to worker1 with one container `app` that runs for ever."""
    uid = spec.pop("uid", f"uid-{name}")
    containers = spec.pop("containers", [container("app")])
    return {
        "metadata": {"name": name, "namespace": "default", "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "worker1", "restartPolicy": "Always", "containers": containers, **spec},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]},
    }


def container(name: str, **fields: Any) -> Document:
    return {"name": name, "image": "web:1", "imagePullPolicy": "IfNotPresent", **fields}


class FakeApi(Client):
    """As much of the API as the kubelet uses; `down` makes it unreachable."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Document] = {}
        self.revision = 100
        self.down = False
        self.patience_s: float | None = None  # how long the last patch would have waited
        self.patches: list[Document] = []
        self.deleted: list[str] = []
        self._raws: dict[tuple[str, str], tuple[str, msgspec.Raw]] = {}
        self.frozen: Mapping[str, msgspec.Raw] | None = None

    # for the test

    def put(self, resource: Resource, document: Document) -> None:
        document = copy.deepcopy(document)
        meta = document["metadata"]
        self.revision += 1
        meta["resourceVersion"] = str(self.revision)
        self.objects[resource.plural, meta.get("namespace", ""), meta["name"]] = document

    def pod(self, name: str) -> Document:
        return self.objects["pods", "default", name]

    def ask_to_delete(self, name: str, grace_s: int = 30) -> None:
        document = self.pod(name)
        document["metadata"] |= {"deletionTimestamp": "2026-01-01T00:10:00Z", "deletionGracePeriodSeconds": grace_s}
        self.put(PODS, document)

    def force_delete(self, name: str) -> None:
        del self.objects["pods", "default", name]

    # the informer's side

    @property
    def synced(self) -> bool:
        return True

    def snapshot(self) -> Mapping[str, msgspec.Raw]:
        if self.frozen is not None:
            return self.frozen
        found = {}
        for (plural, namespace, name), document in self.objects.items():
            if plural != "pods":
                continue
            revision, raw = self._raws.get((namespace, name), ("", msgspec.Raw(b"")))
            if revision != document["metadata"]["resourceVersion"]:
                raw = msgspec.Raw(msgspec.json.encode(document))
                self._raws[namespace, name] = (document["metadata"]["resourceVersion"], raw)
            found[f"{namespace}/{name}"] = raw
        return found

    # the client's side

    def request(self, method: str, path: str, **_: Any) -> bytes:
        self._reach()
        parts = path.split("/")
        return msgspec.json.encode(self._find(parts[-2], parts[4], parts[-1]))

    def list(self, resource: Resource, namespace: str = "", **_: Any) -> RawList:
        self._reach()
        found = [d for (plural, where, _), d in self.objects.items() if (plural, where) == (resource.plural, namespace)]
        return RawList(ListMeta(), [msgspec.Raw(msgspec.json.encode(document)) for document in found])

    def patch(
        self,
        resource: Resource,
        name: str,
        body: Any,
        namespace: str = "",
        *,
        subresource: str = "",
        kind: str = "",
        timeout_s: float | None = None,
    ) -> Document:
        self.patience_s = timeout_s
        self._reach()
        document = self._find(resource.plural, namespace, name)
        meta = document["metadata"]
        for field, value in (body.get("metadata") or {}).items():
            if meta.get(field) != value:
                raise Conflict(f"{field} is {meta.get(field)}, not {value}")
        self.patches.append(copy.deepcopy(body))
        for part in body.keys() & {"spec", "status"}:
            fields = document.setdefault(part, {})
            fields |= copy.deepcopy(body[part])
            document[part] = {field: value for field, value in fields.items() if value is not None}
        self.put(resource, document)
        return copy.deepcopy(self._find(resource.plural, namespace, name))

    def delete(self, resource: Resource, name: str, namespace: str = "", **options: Any) -> Document:
        self._reach()
        document = self._find(resource.plural, namespace, name)
        if options.get("uid") and document["metadata"]["uid"] != options["uid"]:
            raise Conflict("another uid")
        assert options.get("grace_s") == 0
        self.deleted.append(name)
        return self.objects.pop((resource.plural, namespace, name))

    def _find(self, plural: str, namespace: str, name: str) -> Document:
        found = self.objects.get((plural, namespace, name))
        if found is None:
            raise NotFound(f'{plural} "{name}" not found')
        return found

    def _reach(self) -> None:
        if self.down:
            raise Unavailable("nobody answers")


class QuietRecorder(Recorder):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def event(self, about: Any, kind: Any, reason: str, message: str) -> None:
        self.told.append((reason, message))


class FakeVolumes:
    """Directories by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kept: set[str] = set()
        self.prepared = 0

    def prepare(self, pod: Pod) -> Mapping[str, str]:
        self.prepared += 1
        self.kept.add(pod.metadata.uid)
        return {volume.name: f"{self.root}/{pod.metadata.uid}/{volume.name}" for volume in pod.spec.volumes}

    def remove(self, pod_uid: str) -> None:
        self.kept.discard(pod_uid)

    def pods(self) -> frozenset[str]:
        return frozenset(self.kept)


class Inline:
    """Runs operations at once, until told to hold or to crash."""

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] | None = None
        self.left: int | None = None  # operations until the process "dies"

    def submit(self, lane: str, work: Callable[[], None]) -> None:
        if self.left is not None:
            if self.left == 0:
                raise Crash
            self.left -= 1
        if self.held is not None:
            self.held.append(work)
        else:
            work()


class Crash(BaseException):
    """The kubelet's process dies here."""


class World:
    """See the module."""

    def __init__(self, root: Path, *pods: Document, timing: Profile = FAST, fencing: Any = None) -> None:
        self.clock = FakeClock()
        self.fencing = fencing or Unfenced()
        self.evictor: Evictor | None = None
        self.root, self.timing = root, timing
        self.api = FakeApi()
        self.runtime = FakeRuntime(self.clock, images=["web:1"], registry=["remote:1"])
        self.volumes = FakeVolumes(root / "volumes")
        self.recorder = QuietRecorder()
        self.executor = Inline()
        self.facts = Facts("10.0.0.11", {"disk": "ssd"}, ROOM, network_ready=True)
        self.machine = Machine("10.0.0.11", str(root / "kubelet"), str(root / "logs"), 4000, 8 * 2**30, 8 * 2**30)
        for document in pods:
            self.api.put(PODS, document)
        self.restart()

    def restart(self) -> None:
        """The kubelet's process dies and starts anew."""
        tools = Tools(
            self.runtime, self.volumes, self.api, self.recorder, Checker(self.runtime, self.clock), self.clock
        )
        self.observer = Observer(self.runtime, on_change=lambda: None)
        parts = Parts(
            client=self.api,
            recorder=self.recorder,
            clock=self.clock,
            timing=self.timing,
            hands=Hands(tools, self.machine),
            checker=tools.checker,
            observer=self.observer,
            pods=self.api,
            executor=self.executor,
            facts=lambda: self.facts,
            fencing=self.fencing,
            evictor=self.evictor,
        )
        self.sync = Sync(parts)

    def step(self) -> float:
        self.observer.observe()
        wait_s = self.sync.step()
        self.sync.probes.run_due()
        return wait_s

    def settle(self, passes: int = 30) -> float:
        """Pass until nothing more is done; the time stands still."""
        wait_s = 0.0
        for _ in range(passes):
            wait_s = self.step()
            if wait_s > 0 and not any(memory.flights for memory in self.sync.roster.memories.values()):
                return wait_s
        return wait_s

    def run(self, seconds: float, every_s: float = 0.5) -> None:
        """Let time pass, pass by pass."""
        end_s = self.clock.monotonic_s() + seconds
        while self.clock.monotonic_s() < end_s:
            self.settle()
            self.clock.advance(min(every_s, max(0.0, end_s - self.clock.monotonic_s())))
        self.settle()

    def status(self, name: str = "web") -> Document:
        found: Document = self.api.pod(name)["status"]
        return found

    def state(self, name: str = "web", index: int = 0) -> Document:
        found: Document = self.status(name)["containerStatuses"][index]
        return found

    def condition(self, kind: str, name: str = "web") -> Document:
        return next((c for c in self.status(name)["conditions"] if c["type"] == kind), {})

    def running(self) -> list[str]:
        return sorted(f"{entry.pod.name}/{entry.name}:{entry.attempt}" for entry in self.runtime.running())
