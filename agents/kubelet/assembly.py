"""Puts a kubelet together for this machine: containerd through nerdctl, Debian's CNI plugins, volumes, psutil."""

from __future__ import annotations

from functools import partial

import msgspec

from agents.kubelet import lease, node, stats, volumes
from agents.kubelet.config import Config
from agents.kubelet.nerdctl import NerdctlRuntime
from agents.kubelet.nerdctl_cli import Settings
from agents.kubelet.network import NetworkSettings, PodNetwork
from agents.kubelet.process import LOG_DIR, Kubelet, World
from labctl.kube.client import Client
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import UsageError
from labctl.runtime.shell import LocalShell


class Places(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where things are on this machine; the defaults are those of a lab's nodes."""

    runtime: Settings = Settings()
    network: NetworkSettings = NetworkSettings()
    memory_dir: str = "/run/labctl/volumes"
    log_dir: str = LOG_DIR


def load_places(path: str) -> Places:
    """Read `path`; UsageError names the file and the field."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Places)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from error


def assemble(config: Config, places: Places) -> Kubelet:
    """The kubelet, not yet running. Its heartbeat has connections and a deadline of its own."""
    shell, clock = LocalShell(), SystemClock()
    client = Client.from_kubeconfig(config.kubeconfig, user_agent="kubelet")
    heartbeat = Client.from_kubeconfig(
        config.kubeconfig, user_agent="kubelet-heartbeat", timeout_s=lease.deadline_s(config.timing), pool=1
    )
    network = PodNetwork(shell, clock, places.network)
    measure = partial(stats.machine, config.root_dir)
    room = node.allocatable(config, measure())
    place = volumes.Place(
        config.root_dir,
        memory_dir=places.memory_dir,
        node_ip=config.node_ip,
        node_cpu_milli=room["cpu"],
        node_memory_bytes=room["memory"],
    )
    world = World(
        runtime=NerdctlRuntime(shell, network, clock, places.runtime),
        volumes=volumes.NodeVolumes(client, shell, clock, place),
        measure=measure,
        clock=clock,
        use_pod_cidr=network.use,
        log_dir=places.log_dir,
    )
    return Kubelet(config, client, heartbeat, world)
