"""Puts a kubelet together for this machine: containerd through nerdctl, Debian's CNI plugins, volumes, psutil."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from agents.kubelet import lease, node, serving, stats, volumes
from agents.kubelet.cgroups import Cgroups
from agents.kubelet.config import Config
from agents.kubelet.enforcer import Enforcer
from agents.kubelet.evictor import NodeConsumption
from agents.kubelet.fence_folder import DEFAULT as FENCE_FOLDER
from agents.kubelet.fence_folder import FenceFolder
from agents.kubelet.nerdctl import NerdctlRuntime
from agents.kubelet.nerdctl_cli import Settings
from agents.kubelet.network import NetworkSettings, PodNetwork
from agents.kubelet.process import LOG_DIR, Kubelet, World
from agents.kubelet.server import Server
from labctl.kube.client import Client
from labctl.kube.fencing import Bounds
from labctl.runtime.clock import Clock, SystemClock, boottime_s
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.loop import Stop
from labctl.runtime.shell import LocalShell, Shell

_EARLIER_STARTS_S = 60.0
_ASK_S = 5.0

_log = logging.getLogger(__name__)


class Places(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where things are on this machine; the defaults are those of a lab's nodes."""

    runtime: Settings = Settings()
    network: NetworkSettings = NetworkSettings()
    memory_dir: str = "/run/labctl/volumes"
    log_dir: str = LOG_DIR
    fence_dir: str = FENCE_FOLDER
    image_dir: str = "/var/lib/containerd"
    keep_pods: str = "/run/labctl/keep-pods"  # while this file is there, a shutdown is one of the whole lab


def load_places(path: str) -> Places:
    """Read `path`; UsageError names the file and the field."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Places)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Assembled:
    """A kubelet and its HTTPS server (None where the configuration names no certificate)."""

    kubelet: Kubelet
    server: Server | None

    def run(self, stop: Stop) -> None:
        """Run both until `stop`."""
        if self.server is not None:
            self.server.start()
        self.kubelet.run(stop)


def assemble(config: Config, places: Places) -> Assembled:
    """The kubelet, not yet running. Its heartbeat has connections and a deadline of its own."""
    shell, clock = LocalShell(), SystemClock()
    client = Client.from_kubeconfig(config.kubeconfig, user_agent="kubelet")
    heartbeat = Client.from_kubeconfig(
        config.kubeconfig, user_agent="kubelet-heartbeat", timeout_s=lease.deadline_s(config.timing), pool=1
    )
    network = PodNetwork(shell, clock, places.network)
    measure = partial(stats.machine, config.root_dir, image_dir=places.image_dir)
    room = node.allocatable(config, measure())
    place = volumes.Place(
        config.root_dir,
        memory_dir=places.memory_dir,
        node_ip=config.node_ip,
        node_cpu_milli=room["cpu"],
        node_memory_bytes=room["memory"],
    )
    runtime = NerdctlRuntime(shell, network, clock, places.runtime)
    parent = places.runtime.cgroup_parent
    folder = FenceFolder(places.fence_dir)
    world = World(
        runtime=runtime,
        volumes=volumes.NodeVolumes(client, shell, clock, place),
        measure=measure,
        clock=clock,
        use_pod_cidr=network.use,
        log_dir=places.log_dir,
        before_listing=partial(await_earlier_starts, places.runtime.binary, places.runtime.namespace, clock),
        consumption=NodeConsumption(Cgroups(), parent, config.root_dir, places.log_dir),
        goes_down=partial(goes_down, shell, places.keep_pods),
        enforcer=Enforcer(folder, Cgroups(), Bounds.of(config.timing), boottime_s, parent),
    )
    kubelet = Kubelet(config, client, heartbeat, world)
    server = serving.server(config, runtime, kubelet.raw_pods, clock, settings=places.runtime)
    return Assembled(kubelet, server)


def goes_down(shell: Shell, keep_pods: str) -> bool:
    """Whether the machine is being shut down, and its pods are to move: not where the whole lab is halted."""
    if os.path.exists(keep_pods):
        return False
    try:
        # By systemd's own socket: neither logind nor a message bus need be there. The exit code is 1 while it stops.
        said = shell.run(["systemctl", "is-system-running"], check=False, timeout_s=_ASK_S).stdout.strip()
    except LabError as error:
        _log.warning("systemd does not say whether the machine goes down: %s", error)
        return False
    return said == "stopping"


def await_earlier_starts(binary: str, namespace: str, clock: Clock) -> None:
    """Wait until no `nerdctl run` of a kubelet that was killed is left: what it starts must be in our first listing."""
    end_s = clock.monotonic_s() + _EARLIER_STARTS_S
    while clock.monotonic_s() < end_s and any(_starts_containers(entry, binary, namespace) for entry in _processes()):
        clock.sleep_s(0.1)


def _processes() -> Iterator[list[str]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry.name}/cmdline", "rb") as file:
                yield file.read().decode(errors="replace").split("\0")


def _starts_containers(words: Sequence[str], binary: str, namespace: str) -> bool:
    return words[0] == binary and namespace in words and "run" in words and "--detach" in words
