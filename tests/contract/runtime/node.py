"""A private containerd with all a test may need of a node: its own folders, socket, cgroups, bridge and range."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from agents.kubelet.cgroups import Cgroups
from agents.kubelet.nerdctl import NerdctlRuntime
from agents.kubelet.nerdctl_cli import Settings, base
from agents.kubelet.network import NetworkSettings, PodNetwork
from labctl import config
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import CommandError, LocalShell
from labctl.vm import nerdctl
from tests.contract.runtime.image import archive

IMAGE = "lab.local/contract:1"
SLEEPER = "lab.local/sleeper:1"  # an entrypoint and a command of its own
POD_CIDR = "10.213.77.0/24"

_CONFIG = """\
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{address}"
"""


def nerdctl_binary() -> str:
    """The nerdctl that nodes get: on PATH, in the cache, or fetched or built now; LabError where none can be had."""
    return str(nerdctl.binary(config.settings().cache_dir, lambda _name, _text: None))


class Node:
    """One private containerd; `runtime()` makes another kubelet's view of it."""

    def __init__(self, folder: Path) -> None:
        self.tag = uuid.uuid4().hex[:6]
        self.folder, self.shell, self.clock = folder, LocalShell(), SystemClock()
        self.run = Path(f"/run/labctl-test-{self.tag}")
        self.settings = Settings(
            binary=nerdctl_binary(),
            address=str(self.run / "c.sock"),
            namespace=f"test-{self.tag}",
            data_root=str(folder / "nerdctl"),
            containerd_root=str(folder / "root"),
            cgroup_parent=f"/labctl-test-{self.tag}",
            work_dir=str(self.run / "work"),
        )
        self.network = NetworkSettings(
            state_dir=str(self.run / "pods"), network=f"test-{self.tag}", bridge=f"ct-{self.tag}"
        )
        self._config = folder / "containerd.toml"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start containerd, or start it again, and wait until it answers."""
        self.run.mkdir(parents=True, exist_ok=True)
        settings = {"root": self.folder / "root", "state": self.run / "state", "address": self.settings.address}
        self._config.write_text(_CONFIG.format(**settings))
        with open(self.folder / "containerd.log", "ab") as log:
            self._process = subprocess.Popen(
                ["containerd", "--config", str(self._config)], stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._answers, what="containerd", deadline_s=30, clock=self.clock, every_s=0.05)

    def kill(self) -> None:
        """containerd dies at once; shims and containers stay."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=10)

    def lose_power(self) -> None:
        """As after a power cut: no process and nothing under /run is left, what is on disk stays."""
        self.kill()
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for mount in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
            if mount.split()[1].startswith(f"{self.run}/"):
                self.shell.run(["umount", "--lazy", mount.split()[1]], check=False)
        for path in (self.run / "pods").glob("*.json"):
            self.shell.run(["ip", "netns", "delete", f"pod-{path.stem}"], check=False)
        shutil.rmtree(self.run)
        shutil.rmtree(Path(self.settings.runc_root, self.settings.namespace))

    def load(self) -> None:
        """Bring the test's images in."""
        cmd = {"Cmd": ["/bin/sh"]}
        entry = {"Entrypoint": ["/bin/echo", "entry"], "Cmd": ["command"], "StopSignal": "SIGUSR1"}
        for name, settings in ((IMAGE, cmd), (SLEEPER, entry)):
            path = archive(self.folder / "image.tar", name, settings)
            self.shell.run([*base(self.settings), "load", "--input", str(path)])

    def runtime(self) -> NerdctlRuntime:
        """A runtime as a fresh kubelet has it."""
        network = PodNetwork(self.shell, self.clock, self.network)
        network.use(POD_CIDR)
        return NerdctlRuntime(self.shell, network, self.clock, self.settings)

    def leftovers(self) -> list[str]:
        """What of containers and pods is still on this machine: shims, loggers, namespaces, records, cgroups."""
        processes = [str(pid) for pid in self._processes()]
        addresses = Path(self.network.state_dir, "addresses", self.network.network)
        files = [*Path(self.network.state_dir).glob("*.json"), *(addresses.glob("10.*") if addresses.exists() else [])]
        pods = list(Path("/sys/fs/cgroup").glob(f"*/{self.settings.cgroup_parent[1:]}/pod*"))
        pods += list(Path("/sys/fs/cgroup").glob(f"{self.settings.cgroup_parent[1:]}/pod*"))
        return [*processes, *map(str, files), *map(str, pods)]

    def destroy(self) -> None:
        """Leave nothing, whatever a test did."""
        with contextlib.suppress(Exception):
            runtime = self.runtime()
            for status in runtime.containers():
                runtime.stop(status.id, grace_s=0)
                runtime.remove(status.id)
        with contextlib.suppress(Exception):
            runtime = self.runtime()
            for sandbox in runtime.sandboxes():
                runtime.remove_sandbox(sandbox.pod)
        for path in (self.run / "pods").glob("*.json"):
            self.shell.run(["ip", "netns", "delete", f"pod-{path.stem}"], check=False)
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=20)
        with contextlib.suppress(CommandError):
            self.shell.run(["ip", "link", "delete", self.network.bridge])
        Cgroups().remove(self.settings.cgroup_parent)
        shutil.rmtree(self.run, ignore_errors=True)

    def _processes(self) -> list[int]:
        """Shims, loggers, and what runs in this node's containers."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    shim = "containerd-shim" in words and self.settings.namespace in words
                    inside = self.settings.cgroup_parent in (entry / "cgroup").read_text()
                    if shim or inside or self.settings.data_root in words:
                        found.append(int(entry.name))
        return found

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.settings.address) == 0


@contextlib.contextmanager
def node(folder: Path) -> Iterator[Node]:
    """A node for the length of a block."""
    found = Node(folder)
    try:
        found.start()
        found.load()
        yield found
    finally:
        found.destroy()
