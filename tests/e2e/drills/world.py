"""A lab whose control plane is real and whose nodes are not: drills against our own API server and controllers."""

from __future__ import annotations

import http.server
import itertools
import json
import threading
from collections.abc import Sequence
from pathlib import Path

from labctl.drills.target import Machine, Reopen
from labctl.kube.client import Client
from labctl.kube.resources import DEPLOYMENTS, ENDPOINT_SLICES, PODS, SERVICES
from labctl.kube.timing import FAST, Profile
from labctl.runtime.errors import LabError
from labctl.runtime.shell import Output
from labctl.vm.provider import Link, Power
from tests.e2e.controlplane.plane import Plane, deployment

LABELS = {"labctl.dev/drill-target": "web"}
SLICES_OF_WEB = "kubernetes.io/service-name=web"


class World:
    """See `labctl.drills.target.Target`."""

    def __init__(self, plane: Plane, folder: Path) -> None:
        self._plane, self._off = plane, set[str]()
        self._turn = itertools.count()
        self._nodes = [plane.node("worker1"), plane.node("worker2")]
        self.drills_dir = folder
        folder.mkdir()
        self.lab, self.provider, self.slowness, self.virtual_address = "plane", "fake", 1.0, ""
        self.profile: Profile = FAST
        self.shared = False
        self.reopen = Reopen(factory=f"{__name__}:nowhere")
        self.server = _Server(("127.0.0.1", self._deploy()), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def client(self) -> Client:
        return self._plane.client

    def machines(self) -> Sequence[Machine]:
        return [Machine(name=node.name, role="worker", address="127.0.0.1") for node in self._nodes]

    def power(self, name: str) -> Power:
        return Power.OFF if name in self._off else Power.RUNNING

    def answers(self, name: str, *, timeout_s: float = 1.0) -> bool:
        return name not in self._off

    def power_off(self, name: str) -> None:
        self._off.add(name)
        self._plane.nodes[name].power_off()

    def power_on(self, name: str) -> None:
        self._off.discard(name)
        self._plane.nodes[name].power_on()

    def reset(self, name: str) -> None:
        self.power_off(name)
        self.power_on(name)

    def suspend(self, name: str) -> None:
        raise LabError("there is nothing to suspend")

    def resume(self, name: str) -> None: ...

    def set_link(self, name: str, link: Link) -> None:
        raise LabError("there is no cable")

    def unit(self, component: str) -> str:
        return f"{component}.service"

    def supply(self, image: str) -> Sequence[str]:
        """See `Target`: whatever runs here needs none."""
        return ()

    def within_reach(self, names: Sequence[str]) -> Sequence[str]:
        return names

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        """The containers that a kubelet would run: of pods that run here and are not to end."""
        if name in self._off:
            raise LabError(f"{name}: no route to host")
        lines = []
        for raw in self.client.list(PODS, field_selector=f"spec.nodeName={name}").items:
            pod = json.loads(bytes(raw))
            if pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
                lines.append(line_of(pod["metadata"]))
        return Output(0, "\n".join([*lines, "--- rules ---"]), "")

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()

    def _deploy(self) -> int:
        """Make the workload; the node port that the API server chose."""
        body = deployment("web", 3)
        body["metadata"]["labels"] = LABELS
        self.client.create(DEPLOYMENTS, body, "default")
        ports = [{"port": 80, "targetPort": 8080}]
        spec = {"type": "NodePort", "selector": {"app": "web"}, "ports": ports}
        meta = {"name": "web", "labels": LABELS}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
        made = self.client.create(SERVICES, body, "default")
        return int(made["spec"]["ports"][0]["nodePort"])

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        world = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """Sends each request to the next ready endpoint, as a proxy does; a dead node's never answers."""

            def do_GET(self) -> None:
                nodes = world.endpoint_nodes()
                node = nodes[next(world._turn) % len(nodes)] if nodes else ""
                if not node or not world.answers(node):
                    threading.Event().wait(1.5)
                    return
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler

    def endpoint_nodes(self) -> list[str]:
        found = self.client.list(ENDPOINT_SLICES, "default", label_selector=SLICES_OF_WEB).items
        return [
            entry["nodeName"]
            for raw in found
            for entry in json.loads(bytes(raw)).get("endpoints") or ()
            if entry["conditions"].get("ready")
        ]


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def line_of(meta: dict[str, str]) -> str:
    labels = {
        "io.kubernetes.pod.namespace": meta["namespace"],
        "io.kubernetes.pod.name": meta["name"],
        "io.kubernetes.pod.uid": meta["uid"],
        "io.kubernetes.container.name": "web",
    }
    return json.dumps({"ID": meta["uid"], "Labels": labels, "Status": "Up"})
