"""A lab in memory for the runner's tests: an API with lists and watches, a control plane that follows a script, a real
HTTP server as the service, and machines whose power is a file, so that another process sees it too."""

from __future__ import annotations

import http.server
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from labctl.drills.target import Machine, Reopen
from labctl.kube.client import ListMeta, RawList, WatchEvent
from labctl.kube.errors import AlreadyExists, Conflict, NotFound
from labctl.kube.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    LEASES,
    NODES,
    PODS,
    SERVICES,
    Resource,
)
from labctl.kube.timing import FAST, Profile
from labctl.runtime.errors import LabError
from labctl.runtime.shell import Output
from labctl.vm.provider import Link, Power

Document = dict[str, Any]

TINY = msgspec.structs.replace(
    FAST,
    lease_renew_s=0.1,
    lease_duration_s=0.5,
    node_monitor_period_s=0.05,
    node_monitor_grace_s=0.5,
    toleration_s=0,
    proxy_min_sync_s=0.05,
)
LABELS = {"app": "web"}
TARGET = {"labctl.dev/drill-target": "web"}
UNREACHABLE = "node.kubernetes.io/unreachable"


class FakeApi:
    """Lists, watches, writes; every change has a revision and is kept, so that watches can go back."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[tuple[str, str], Document] = {}
        self._log: list[tuple[int, str, str, bytes]] = []
        self._revision = 1_000
        self.lose_events = False  # a watch that silently skips events
        self.lose_writes = False  # every third write is acknowledged and forgotten
        self.stale_reads = False  # a single object is read as it was a few changes ago
        self._writes = itertools.count(1)

    def put(self, resource: Resource, body: Document) -> Document:
        """Create or replace."""
        with self._changed:
            key = (resource.plural, _name(body))
            kind = "MODIFIED" if key in self._objects else "ADDED"
            self._revision += 1
            body = json.loads(json.dumps(body))
            body["metadata"]["resourceVersion"] = str(self._revision)
            self._objects[key] = body
            self._log.append((self._revision, resource.plural, kind, json.dumps(body).encode()))
            self._changed.notify_all()
            return body

    def change(self, resource: Resource, name: str, edit: Callable[[Document], None]) -> None:
        """Edit one object in place."""
        with self._changed:
            body = json.loads(json.dumps(self._objects[resource.plural, name]))
            edit(body)
            self.put(resource, body)

    def remove(self, resource: Resource, name: str) -> None:
        """Delete."""
        with self._changed:
            body = self._objects.pop((resource.plural, name), None)
            if body is None:
                raise NotFound(f"{resource.plural} {name!r} not found")
            self._revision += 1
            body["metadata"]["resourceVersion"] = str(self._revision)
            self._log.append((self._revision, resource.plural, "DELETED", json.dumps(body).encode()))
            self._changed.notify_all()

    def names(self, resource: Resource) -> list[str]:
        """What there is of a kind."""
        with self._changed:
            return [name for plural, name in self._objects if plural == resource.plural]

    def get(self, resource: Resource, name: str, namespace: str = "") -> Document:
        with self._changed:
            found = self._objects.get((resource.plural, _key(namespace, name)))
            if found is None:
                raise NotFound(f"{resource.plural} {name!r} not found")
            return self._older(resource, found) if self.stale_reads else found

    def _older(self, resource: Resource, found: Document) -> Document:
        versions = [json.loads(body) for _, plural, _, body in self._log if plural == resource.plural]
        mine = [body for body in versions if _name(body) == _name(found)]
        return dict(mine[max(0, len(mine) - 3)])

    def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> RawList:
        with self._changed:
            items = [
                body
                for (plural, _), body in self._objects.items()
                if plural == resource.plural
                and namespace in ("", body["metadata"].get("namespace", ""))
                and (not label_selector or label_selector in body["metadata"].get("labels", {}))
            ]
            raw = [msgspec.Raw(json.dumps(item).encode()) for item in items]
            return RawList(ListMeta(resource_version=str(self._revision)), raw)

    def create(self, resource: Resource, body: object, namespace: str = "") -> Document:
        assert isinstance(body, dict)
        made = json.loads(json.dumps(body))
        if namespace:
            made["metadata"]["namespace"] = namespace
        if (resource.plural, _name(made)) in self._objects:
            raise AlreadyExists(f"{resource.plural} {_name(made)!r} already exists")
        return self.put(resource, made)

    def patch(self, resource: Resource, name: str, body: object, namespace: str = "") -> Document:
        assert isinstance(body, dict)
        meta = dict(body.get("metadata", {}))
        expected = meta.pop("resourceVersion", None)
        with self._changed:
            current = self.get(resource, name, namespace)
            if expected not in (None, current["metadata"]["resourceVersion"]):
                raise Conflict("the object has been modified; please apply your changes to the latest version")
            if self.lose_writes and next(self._writes) % 3 == 0:
                return self._objects[resource.plural, _key(namespace, name)]
            self.change(resource, _key(namespace, name), lambda found: _merge(found, {**body, "metadata": meta}))
            return self._objects[resource.plural, _key(namespace, name)]

    def post(self, resource: Resource, name: str, subresource: str, body: object, namespace: str = "") -> Document:
        raise NotFound(f"{resource.plural}/{subresource} is not served here")

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        grace_s: int | None = None,
        resource_version: str = "",
    ) -> None:
        with self._changed:
            found = self.get(resource, name, namespace)
            if resource_version not in ("", found["metadata"]["resourceVersion"]):
                raise Conflict("the object has been modified")
            self.remove(resource, _key(namespace, name))

    @contextmanager
    def watch(
        self, resource: Resource, namespace: str = "", *, resource_version: str, timeout_s: int = 300
    ) -> Iterator[Iterator[WatchEvent]]:
        yield self._events(resource, namespace, int(resource_version), time.monotonic() + timeout_s)

    def _events(self, resource: Resource, namespace: str, after: int, end_s: float) -> Iterator[WatchEvent]:
        long_lived = end_s - time.monotonic() > 10
        position = sent = 0
        while time.monotonic() < end_s:
            with self._changed:
                if position == len(self._log) and not self._changed.wait(0.1):
                    continue
                entries, position = self._log[position:], len(self._log)
            for revision, plural, kind, body in entries:
                if plural != resource.plural or revision <= after:
                    continue
                if namespace and json.loads(body)["metadata"].get("namespace") != namespace:
                    continue
                sent += 1
                if self.lose_events and long_lived and plural == "leases" and sent % 5 == 0:
                    continue
                yield WatchEvent(kind, msgspec.Raw(body))


def _merge(found: Document, change: Document) -> None:
    """A merge patch."""
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict):
            _merge(found.setdefault(key, {}), value)
        else:
            found[key] = value


def _key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _name(body: Document) -> str:
    return _key(body["metadata"].get("namespace", ""), body["metadata"]["name"])


class FakeLab:
    """See the module. `faults` names what goes wrong, e.g. deaf-power, no-boot, stale-endpoint, orphan."""

    def __init__(
        self,
        folder: Path,
        *,
        faults: Sequence[str] = (),
        profile: Profile = TINY,
        slowness: float = 1.0,
        workload: bool = True,
    ) -> None:
        self.folder, self.faults, self._profile, self._slowness = folder, set(faults), profile, slowness
        self.api = FakeApi()
        self.power_calls: list[str] = []
        self.lost_after_heal = 0  # so many requests get no answer once the power is back: the proxy still syncs
        self.armed_before_power_off: bool | None = None
        self.shared = False
        self._lock = threading.Lock()
        self._letters = iter(f"{number:02}" for number in itertools.count())
        self._turn = itertools.count()
        self._containers: dict[str, dict[str, str]] = {"worker1": {}, "worker2": {}}  # node -> uid -> pod
        self._alive = threading.Event()
        self._alive.set()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        folder.mkdir(parents=True, exist_ok=True)
        self._power_file.write_text(json.dumps({"worker1": "running", "worker2": "running"}))
        for name in self._containers:
            self.api.put(NODES, _node(name, "True"))
            self.api.put(LEASES, _lease(name, 0))
        if workload:
            self._deploy()
        for run in (self.server.serve_forever, self._beat):
            threading.Thread(target=run, daemon=True).start()

    def close(self) -> None:
        """Stop everything."""
        self._alive.clear()
        self.server.shutdown()
        self.server.server_close()

    # -- Target ---------------------------------------------------------------------------------------------------

    @property
    def lab(self) -> str:
        return "fake"

    @property
    def provider(self) -> str:
        return "fake"

    @property
    def profile(self) -> Profile:
        return self._profile

    @property
    def slowness(self) -> float:
        return self._slowness

    @property
    def virtual_address(self) -> str:
        return ""

    @property
    def drills_dir(self) -> Path:
        return self.folder

    @property
    def reopen(self) -> Reopen:
        return Reopen(factory=f"{__name__}:reopened", args={"folder": str(self.folder)})

    @property
    def client(self) -> FakeApi:
        return self.api

    def machines(self) -> Sequence[Machine]:
        return [Machine(name=name, role="worker", address="127.0.0.1") for name in self._containers]

    def power(self, name: str) -> Power:
        return Power(json.loads(self._power_file.read_text())[name])

    def answers(self, name: str, *, timeout_s: float = 1.0) -> bool:
        return self.power(name) is Power.RUNNING

    def power_off(self, name: str) -> None:
        self.power_calls.append(f"off {name}")
        pending = self.folder / "undo.json"
        self.armed_before_power_off = pending.exists() and f'"node": "{name}"' in pending.read_text()
        if "deaf-power" in self.faults:
            return
        self._set_power(name, "off")
        time.sleep(0.1)
        threading.Thread(target=self._lose, args=(name,), daemon=True).start()

    def power_on(self, name: str) -> None:
        self.power_calls.append(f"on {name}")
        if "no-boot" in self.faults:
            raise LabError(f"{name}: the hypervisor refuses")
        self._set_power(name, "running")
        threading.Thread(target=self._return, args=(name,), daemon=True).start()

    def reset(self, name: str) -> None:
        self.power_off(name)
        self.power_on(name)

    def suspend(self, name: str) -> None:
        raise LabError("machines in memory cannot be suspended")

    def resume(self, name: str) -> None: ...

    def set_link(self, name: str, link: Link) -> None:
        raise LabError("machines in memory have no cable")

    def unit(self, component: str) -> str:
        return f"{component}.service"

    def supply(self, image: str) -> Sequence[str]:
        """See `Target`: whatever runs here needs none."""
        return ()

    def within_reach(self, names: Sequence[str]) -> Sequence[str]:
        return names

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        if self.power(name) is not Power.RUNNING:
            raise LabError(f"{name}: no route to host")
        with self._lock:
            lines = [_container_line(uid, pod) for uid, pod in self._containers[name].items()]
        return Output(0, "\n".join([*lines, "--- rules ---", "table ip labctl {}"]), "")

    @property
    def _power_file(self) -> Path:
        return self.folder / "power.json"

    def _set_power(self, name: str, state: str) -> None:
        with self._lock:
            states = json.loads(self._power_file.read_text())
            draft = self._power_file.with_suffix(".draft")
            draft.write_text(json.dumps({**states, name: state}))
            draft.replace(self._power_file)

    # -- the script -----------------------------------------------------------------------------------------------

    def _deploy(self) -> None:
        meta = {"namespace": "default", "name": "web", "labels": {**LABELS, **TARGET}, "generation": 1}
        status = {"observedGeneration": 1, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}
        self.api.put(DEPLOYMENTS, {"metadata": meta, "spec": {"replicas": 3}, "status": status})
        port = self.server.server_address[1]
        self.api.put(
            SERVICES, {"metadata": meta, "spec": {"selector": LABELS, "ports": [{"port": 80, "nodePort": port}]}}
        )
        for node in ("worker1", "worker1", "worker2"):
            self._start_pod(node)
        self._publish()

    def own(self, name: str, *nodes: str) -> None:
        """A StatefulSet's pod, and its container on each of these nodes: more than one is what must never be."""
        pod = _pod(name, nodes[0], "")
        pod["metadata"] |= {
            "labels": {},
            "ownerReferences": [{"kind": "StatefulSet", "name": "db", "controller": True}],
        }
        self.api.put(PODS, pod)
        with self._lock:
            for node in nodes:
                self._containers[node][f"uid-{name}"] = name

    def _start_pod(self, node: str) -> None:
        letter = next(self._letters)
        name = f"web-{letter}"
        self.api.put(PODS, _pod(name, node, f"10.244.0.{int(letter) + 2}"))
        with self._lock:
            self._containers[node][f"uid-{name}"] = name

    def _publish(self, *, keep: str = "") -> None:
        """The slice as its controller would write it; `keep`: a node whose endpoints stay."""
        endpoints = []
        for raw in self.api.list(PODS).items:
            pod = json.loads(bytes(raw))
            ready = pod["status"]["conditions"][0]["status"] == "True" and "deletionTimestamp" not in pod["metadata"]
            if ready or pod["spec"]["nodeName"] == keep:
                endpoints.append(
                    {
                        "addresses": [pod["status"]["podIP"]],
                        "nodeName": pod["spec"]["nodeName"],
                        "targetRef": {"name": pod["metadata"]["name"]},
                        "conditions": {"ready": True},
                    }
                )
        labels = {"kubernetes.io/service-name": "web"}
        meta = {"namespace": "default", "name": "web-1", "labels": labels}
        self.api.put(ENDPOINT_SLICES, {"metadata": meta, "endpoints": endpoints})

    def _lose(self, node: str) -> None:
        """What the control plane does about a node that is gone."""
        with self._lock:
            self._containers[node].clear()
        early = "early-detection" in self.faults
        time.sleep(0.05 if early else self._profile.node_monitor_grace_s)
        if self.power(node) is not Power.OFF:
            return
        taint = [{"key": UNREACHABLE, "effect": "NoExecute"}]
        mine = [name for name in self.api.names(PODS) if self._on(name, node)]
        self.api.put(NODES, _node(node, "Unknown", taint))
        for name in mine:
            self.api.change(PODS, name, _not_ready)
        stale = node if "stale-endpoint" in self.faults else ""
        self._publish(keep=stale)
        for name in mine:
            self.api.change(PODS, name, lambda pod: pod["metadata"].update(deletionTimestamp="2026-01-31T08:00:00Z"))
        for _ in mine:
            self._start_pod(next(name for name in self._containers if name != node))
        self._publish(keep=stale)

    def _on(self, pod: str, node: str) -> bool:
        found = self.api.get(PODS, pod)
        return bool(found["spec"]["nodeName"] == node and "deletionTimestamp" not in found["metadata"])

    def _return(self, node: str) -> None:
        time.sleep(0.1)
        self.api.put(NODES, _node(node, "True"))
        for name in self.api.names(PODS):
            found = self.api.get(PODS, name)
            if found["spec"]["nodeName"] != node:
                continue
            if "deletionTimestamp" in found["metadata"]:
                self.api.remove(PODS, name)
            else:  # the power came back before anybody noticed: its kubelet starts them again
                with self._lock:
                    self._containers[node][found["metadata"]["uid"]] = found["metadata"]["name"]
        if "orphan" in self.faults:
            with self._lock:
                self._containers[node]["uid-web-00"] = "web-00"
        self._publish()

    def _beat(self) -> None:
        for number in itertools.count(1):
            if not self._alive.is_set():
                return
            for name in self._containers:
                if self.power(name) is Power.RUNNING:
                    self.api.put(LEASES, _lease(name, number))
            time.sleep(self._profile.lease_renew_s)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        lab = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoints = lab.endpoints()
                node = endpoints[next(lab._turn) % len(endpoints)] if endpoints else ""
                if not node or lab.power(node) is not Power.RUNNING or lab.loses():
                    time.sleep(1.5)  # packets to nowhere
                    return
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler

    def loses(self) -> bool:
        """Whether this request is one of those that are lost after the heal."""
        with self._lock:
            lost = self.lost_after_heal > 0 and any(call.startswith("on ") for call in self.power_calls)
            self.lost_after_heal -= lost
        return lost

    def endpoints(self) -> list[str]:
        """The nodes of the ready endpoints, as the proxies know them."""
        try:
            found = self.api.get(ENDPOINT_SLICES, "web-1", "default")
        except NotFound:
            return []
        return [endpoint["nodeName"] for endpoint in found["endpoints"]]


class Reopened:
    """The same lab as the dead-man sees it: power, and a client that notes what it is asked to delete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.profile, self.provider, self.lab, self.slowness = TINY, "fake", "fake", 1.0

    @property
    def client(self) -> Reopened:
        return self

    def delete(self, resource: Resource, name: str, namespace: str = "", *, grace_s: int | None = None) -> None:
        with open(self.folder / "deleted", "a") as file:
            file.write(f"{resource.plural} {_key(namespace, name)}\n")

    def power(self, name: str) -> Power:
        return Power(json.loads((self.folder / "power.json").read_text())[name])

    def answers(self, name: str, *, timeout_s: float = 1.0) -> bool:
        return self.power(name) is Power.RUNNING

    def power_on(self, name: str) -> None:
        states: Mapping[str, str] = json.loads((self.folder / "power.json").read_text())
        (self.folder / "power.json").write_text(json.dumps({**states, name: "running"}))


def reopened(folder: str) -> Reopened:
    """See `Reopen`."""
    return Reopened(Path(folder))


def _node(name: str, ready: str, taints: Sequence[Document] = ()) -> Document:
    reason = "KubeletReady" if ready == "True" else "NodeStatusUnknown"
    conditions = [{"type": "Ready", "status": ready, "reason": reason}]
    number = name[-1]
    return {
        "metadata": {"name": name},
        "spec": {"podCIDR": f"10.244.{number}.0/24", **({"taints": list(taints)} if taints else {})},
        "status": {"conditions": conditions, "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]},
    }


def _lease(name: str, number: int) -> Document:
    return {"metadata": {"namespace": "kube-node-lease", "name": name}, "spec": {"renewTime": f"{number}"}}


def _pod(name: str, node: str, address: str) -> Document:
    owner = {"kind": "ReplicaSet", "name": "web-1", "controller": True}
    tolerations = [{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}]
    return {
        "metadata": {
            "namespace": "default", "name": name, "uid": f"uid-{name}", "labels": LABELS, "ownerReferences": [owner]
        },
        "spec": {"nodeName": node, "tolerations": tolerations},
        "status": {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
    }  # fmt: skip


def _not_ready(pod: Document) -> None:
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]


def _container_line(uid: str, pod: str) -> str:
    labels = {
        "io.kubernetes.pod.namespace": "default",
        "io.kubernetes.pod.name": pod,
        "io.kubernetes.pod.uid": uid,
        "io.kubernetes.container.name": "web",
    }
    text = ",".join(f"{key}={value}" for key, value in labels.items())
    return json.dumps({"ID": f"id-{uid}", "Labels": text, "Status": "Up"})
