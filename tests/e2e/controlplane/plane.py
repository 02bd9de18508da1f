"""A control plane in processes of its own on loopback, over the memory store or an etcd, with fake nodes."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from labctl.kube.client import MERGE_PATCH, STRATEGIC_PATCH, Client
from labctl.kube.errors import ApiError, Document, NotFound
from labctl.kube.resources import LEASES, NODES, PODS, Resource
from labctl.runtime.clock import SystemClock, rfc3339, rfc3339_micro
from labctl.runtime.loop import Stop, wait_for
from tests.e2e.controlplane.certificates import Authority

T = TypeVar("T")
CLOCK = SystemClock()
_BUILDS = Path(__file__).parents[1] / "drills" / "builds.py"
ENDS = "lab.local/ends"  # the phase in which a pod that runs once is to end


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Plane:
    """API server, scheduler and controllers, each a process that can be killed and started again."""

    def __init__(
        self,
        folder: Path,
        *,
        profile: str = "fast",
        etcd_servers: Sequence[str] = ("memory://",),
        broken: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`broken`: what is broken on purpose in a component, by names of tests/e2e/drills/builds.py."""
        self._broken = broken or {}
        self.folder, self.profile, self._etcd_servers = folder, profile, list(etcd_servers)
        self.authority = Authority(folder)
        self.port = free_port()
        self.server = f"https://127.0.0.1:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.nodes: dict[str, FakeNode] = {}
        admin = self.authority.kubeconfig("admin", self.server, "kubernetes-admin", "system:masters")
        self.client = Client.from_kubeconfig(admin, timeout_s=5)
        self._write_configs()

    def __enter__(self) -> Self:
        """Start everything."""
        try:
            self.start("apiserver")
            self.start("scheduler", "controllers")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_configs(self) -> None:
        certificate, key = self.authority.issue("apiserver", "kube-apiserver")
        own, own_key = self.authority.issue("kubelet-client", "kube-apiserver-kubelet-client", "kubeadm:cluster-admins")
        self._config(
            "apiserver",
            bind_address="127.0.0.1",
            port=self.port,
            advertise_address="127.0.0.1",
            etcd_servers=self._etcd_servers,
            tls_cert_file=str(certificate),
            tls_key_file=str(key),
            client_ca_file=str(self.authority.path),
            kubelet_client_cert_file=str(own),
            kubelet_client_key_file=str(own_key),
            service_account_key_file=str(self.authority.service_account_key),
        )
        for name, user in (
            ("scheduler", "system:kube-scheduler"),
            ("controllers", "system:kube-controller-manager"),
        ):
            self._config(name, kubeconfig=self.authority.kubeconfig(name, self.server, user))

    def _config(self, name: str, **fields: Any) -> None:
        (self.folder / f"{name}.json").write_bytes(msgspec.json.encode({**fields, "profile": self.profile}))

    def start(self, *names: str) -> None:
        """Start components by module name."""
        for name in names:
            with (self.folder / f"{name}.log").open("ab") as log:
                broken = self._broken.get(name)
                program = [str(_BUILDS), name, *broken, "--"] if broken else ["-m", f"master.{name}"]
                argv = [sys.executable, *program, "--config", str(self.folder / f"{name}.json")]
                self.processes[name] = subprocess.Popen(argv, stdout=log, stderr=log)
        if "apiserver" in names:
            self.until("the API server", lambda: self.client.request("GET", "/readyz"), deadline_s=60)

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)

    def stop(self) -> None:
        """End everything."""
        for node in self.nodes.values():
            node.power_off()
        for name, process in self.processes.items():
            process.kill() if name == "apiserver" else process.terminate()  # it keeps nothing, and we need no farewell
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    def node(self, name: str, **options: Any) -> FakeNode:
        """Add a fake node."""
        self.nodes[name] = FakeNode(name, self.client, **options)
        return self.nodes[name]

    def until(self, what: str, probe: Callable[[], T | None], deadline_s: float = 15.0, every_s: float = 0.02) -> T:
        """Wait until `probe` returns something true; API errors count as not yet."""

        def guarded() -> T | None:
            try:
                return probe()
            except ApiError:
                return None

        return wait_for(guarded, what=what, deadline_s=deadline_s, clock=CLOCK, every_s=every_s)

    def all(self, resource: Resource, namespace: str = "default", **query: str) -> list[Document]:
        """Every object of a kind in a namespace."""
        return [msgspec.json.decode(raw) for raw in self.client.list(resource, namespace, **query).items]  # type: ignore[arg-type]

    def gone(self, resource: Resource, name: str, namespace: str = "default") -> bool:
        """Whether the API knows no such object."""
        try:
            self.client.get(resource, name, namespace)
        except NotFound:
            return True
        return False


class FakeNode:
    """A Node with a heartbeat and a tiny kubelet: pods become Running and Ready at once, and end when told to.

    Those that are never restarted succeed at once.
    """

    def __init__(self, name: str, client: Client, *, cpu: str = "4", labels: dict[str, str] | None = None) -> None:
        self.name, self._client = name, client
        self._stop = Stop()
        self._count = 0
        self.ready = True  # whether pods report ready
        number = sum(name.encode()) % 200
        self._prefix = f"10.99.{number}"
        self._create(cpu, labels or {})
        threading.Thread(target=self._run, daemon=True).start()

    def power_off(self) -> None:
        """Silence: no heartbeat, no kubelet."""
        self._stop.set()

    def power_on(self) -> None:
        """The same node again."""
        self._stop = Stop()
        threading.Thread(target=self._run, daemon=True).start()

    def _create(self, cpu: str, labels: dict[str, str]) -> None:
        meta = {"name": self.name, "labels": {"kubernetes.io/hostname": self.name, **labels}}
        self._client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": meta})
        self._room = {"cpu": cpu, "memory": "4Gi", "pods": "110", "ephemeral-storage": "10Gi"}

    def _conditions(self) -> list[Document]:
        now = rfc3339(CLOCK.now())
        kinds = (("Ready", "True"), ("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"))
        return [
            {"type": kind, "status": status, "reason": "Fake", "lastHeartbeatTime": now, "lastTransitionTime": now}
            for kind, status in kinds
        ]

    def _report(self) -> None:
        status = {"status": {"capacity": self._room, "allocatable": self._room, "conditions": self._conditions()}}
        self._client.patch(NODES, self.name, status, subresource="status", kind=STRATEGIC_PATCH)

    def _renew(self) -> None:
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": 4, "renewTime": rfc3339_micro(CLOCK.now())}
        try:
            self._client.patch(LEASES, self.name, {"spec": spec}, "kube-node-lease")
        except NotFound:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self.name, "namespace": "kube-node-lease"},
                "spec": spec,
            }
            self._client.create(LEASES, body, "kube-node-lease")

    def _run(self) -> None:
        stop = self._stop
        due_s, reported = 0.0, False
        while not stop.is_set():
            try:
                if not reported:
                    self._report()
                    reported = True
                if CLOCK.monotonic_s() >= due_s:
                    self._renew()
                    due_s = CLOCK.monotonic_s() + 1.0
                self._sync(stop)
            except ApiError:
                reported = False
            stop.wait_s(0.05)

    def _sync(self, stop: Stop) -> None:
        found = self._client.list(PODS, field_selector=f"spec.nodeName={self.name}").items
        for raw in found:
            pod = msgspec.json.decode(raw)
            meta = pod["metadata"]
            if stop.is_set():
                return
            if meta.get("deletionTimestamp"):
                if meta.get("deletionGracePeriodSeconds") == 0:  # confirmed before: a finalizer holds it
                    continue
                self._client.delete(PODS, meta["name"], meta["namespace"], uid=meta["uid"], grace_s=0)
            elif self._differs(pod):
                self._start(pod)

    def _differs(self, pod: Document) -> bool:
        status = pod.get("status", {})
        if end := _end_of(pod):
            return bool(status.get("phase") != end)
        ready = [entry["status"] for entry in status.get("conditions", ()) if entry["type"] == "Ready"]
        return status.get("phase") != "Running" or ready != ["True" if self.ready else "False"]

    def _start(self, pod: Document) -> None:
        self._count += 1
        now = rfc3339(CLOCK.now())
        end = _end_of(pod)
        state = "True" if self.ready and not end else "False"
        entry = {"type": "Ready", "status": state, "lastTransitionTime": now}
        address = pod.get("status", {}).get("podIP") or f"{self._prefix}.{self._count}"
        status = {"phase": end or "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [entry]}
        meta = pod["metadata"]
        body = {"metadata": {"uid": meta["uid"]}, "status": status}
        self._client.patch(PODS, meta["name"], body, meta["namespace"], subresource="status", kind=STRATEGIC_PATCH)


def _end_of(pod: Document) -> str:
    """The phase in which a pod that is not to be restarted ends, as soon as it starts: it succeeds unless told."""
    if pod["spec"].get("restartPolicy") != "Never":
        return ""
    return str((pod["metadata"].get("annotations") or {}).get(ENDS, "Succeeded"))


def deployment(name: str, replicas: int, *, image: str = "lab.local/web:1", **spec: Any) -> Document:
    """A Deployment of one small container."""
    labels = {"app": name}
    container = {"name": "web", "image": image, "resources": {"requests": {"cpu": "100m"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **spec,
        },
    }


__all__ = ["CLOCK", "ENDS", "MERGE_PATCH", "FakeNode", "Plane", "deployment"]
