"""Puts the kubelet's server together from what the kubelet has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from agents.kubelet import stats
from agents.kubelet.answers import Routes, Sources
from agents.kubelet.cgroups import Cgroups
from agents.kubelet.config import Config
from agents.kubelet.nerdctl_cli import Settings
from agents.kubelet.runtime import ContainerRuntime, RuntimeFailure
from agents.kubelet.server import Server, Tls
from agents.kubelet.streaming import Streams
from labctl.runtime.clock import Clock


def server(
    config: Config,
    runtime: ContainerRuntime,
    pods: Callable[[], Sequence[msgspec.Raw]],
    clock: Clock,
    *,
    settings: Settings | None = None,
    address: str = "0.0.0.0",  # noqa: S104
) -> Server | None:
    """The server, not yet started; None where the configuration names no certificate."""
    if not config.tls_cert_file:
        return None
    places, cgroups = settings or Settings(), Cgroups()

    def summary() -> dict[str, object]:
        found, parent = runtime.containers(), places.cgroup_parent
        return stats.summary(node=config.node_name, containers=found, cgroups=cgroups, parent=parent, clock=clock)

    def healthy() -> str:
        try:
            runtime.version()
        except RuntimeFailure as error:
            return str(error)
        return ""

    sources = Sources(runtime.containers, pods, summary, healthy, clock)
    tls = Tls(config.tls_cert_file, config.tls_key_file, config.client_ca_file)
    routes = Routes(sources)
    streams = Streams(runtime, routes.knows, places.work_dir)
    return Server(routes, tls, streams=streams, address=address, port=config.port)
