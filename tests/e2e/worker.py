"""A node on this machine: the kubelet's own process over a private containerd, and a control plane it reports to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from agents.kubelet.runtime import ContainerStatus
from labctl.kube.errors import Document
from labctl.kube.resources import PODS
from labctl.runtime.clock import SystemClock
from tests.contract.runtime.node import Node
from tests.e2e.controlplane.plane import Plane, free_port


class Worker:
    """A node whose kubelet is `python -m agents.kubelet`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, SystemClock()
        (folder / "containerd").mkdir()
        self.node, self.plane = Node(folder / "containerd"), Plane(folder)
        self.process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        self.node.start()
        self.node.load()
        self.plane.start("apiserver")
        self.plane.start("scheduler", "controllers")
        certificate, key = self.plane.authority.issue("kubelet-server", "worker1")
        identity = ("worker1", self.plane.server, "system:node:worker1", "system:nodes")
        self._write("kubelet.json", {
            "kubeconfig": self.plane.authority.kubeconfig(*identity),
            "node_name": "worker1",
            "node_ip": "127.0.0.1",
            "root_dir": str(self.folder / "root"),
            "port": free_port(),
            "tls_cert_file": str(certificate),
            "tls_key_file": str(key),
            "client_ca_file": str(self.plane.authority.path),
        })  # fmt: skip
        self._write("places.json", {
            "runtime": self.node.settings,
            "network": self.node.network,
            "memory_dir": str(self.folder / "memory"),
            "log_dir": str(self.folder / "logs"),
            "fence_dir": str(self.folder / "fencing"),
        })  # fmt: skip
        self.start()

    def start(self) -> None:
        argv = [sys.executable, "-m", "agents.kubelet", "--config", str(self.folder / "kubelet.json")]
        with (self.folder / "kubelet.log").open("ab") as log:
            places = ["--places", str(self.folder / "places.json")]
            self.process = subprocess.Popen([*argv, *places], stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def down(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.plane.stop()
        self.node.destroy()

    def running(self) -> list[ContainerStatus]:
        return [entry for entry in self.node.runtime().containers() if entry.phase == "running"]

    def pods(self) -> list[Document]:
        return self.plane.all(PODS)

    def ready(self) -> list[Document]:
        return [p for p in self.pods() if condition(p, "Ready") == "True" and "deletionTimestamp" not in p["metadata"]]

    def agrees(self, count: int) -> bool:
        """Whether API and containerd both have exactly `count` pods, the same ones, each once."""
        ready = sorted(entry["metadata"]["uid"] for entry in self.ready())
        alive = sorted(entry.pod.uid for entry in self.running())
        return len(self.pods()) == len(alive) == count and ready == alive

    def _write(self, name: str, document: Any) -> None:
        (self.folder / name).write_bytes(msgspec.json.encode(document))


def condition(document: Document, kind: str) -> str:
    found = document.get("status", {}).get("conditions") or ()
    return str(next((c["status"] for c in found if c["type"] == kind), ""))
