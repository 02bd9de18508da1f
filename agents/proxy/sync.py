"""Observe, decide, apply: wakes on changes, writes only differences, looks after its own rules now and then."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from agents.proxy import plan, render
from agents.proxy.config import Config
from agents.proxy.plan import Route, Target
from agents.proxy.views import EndpointSlice, Node, Service
from labctl.kube.client import Client
from labctl.kube.informer import Informer
from labctl.kube.resources import ENDPOINT_SLICES, NODES, SERVICES
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Backoff, Stop, Wake
from labctl.runtime.shell import CommandError, Shell

_log = logging.getLogger(__name__)

ROUTE_PROTOCOL = "77"  # marks our routes; no other is ever touched
_COMMAND_S = 30.0


class _KernelRoute(msgspec.Struct, frozen=True):
    dst: str
    gateway: str = ""


@dataclass(slots=True)
class _Applied:
    """What the kernel holds, as far as we know; None after a start or a failure."""

    table: render.Table | None = None
    targets: tuple[Target, ...] = ()
    routes: frozenset[Route] | None = None


class Network:
    """The kernel's rules and routes: applies differences, and notices when somebody else removed them."""

    def __init__(self, config: Config, shell: Shell) -> None:
        self._config, self._shell = config, shell
        self._applied = _Applied()

    def apply(self, targets: tuple[Target, ...], routes: frozenset[Route]) -> bool:
        """Bring the kernel to this; whether anything had to be done. CommandError: nothing of the rules was changed."""
        changed = routes != self._applied.routes
        if changed:
            self._routes(routes)
        if self._applied.table is not None and targets == self._applied.targets:
            return changed
        table = render.table(targets, self._config.cluster_cidr)
        if script := render.transaction(self._applied.table, table):
            before, self._applied.table = self._applied.targets, None
            self._shell.run(["nft", "-f", "-"], stdin=script, timeout_s=_COMMAND_S)
            self._forget(plan.stale_udp(before, targets))
            changed = True
        self._applied.table, self._applied.targets = table, targets
        return changed

    def inspect(self) -> None:
        """Look whether our rules and routes are still there; what is not is written anew by the next `apply`."""
        self._applied.routes = None
        listed = self._shell.run(
            ["nft", "list", "chain", "ip", render.TABLE, "services"], check=False, timeout_s=_COMMAND_S
        )
        if listed.code != 0 or "@cluster-ips" not in listed.stdout:
            self._applied.table = None

    def _routes(self, wanted: frozenset[Route]) -> None:
        self._applied.routes = None
        listed = self._shell.run(["ip", "-json", "-4", "route", "show", "proto", ROUTE_PROTOCOL], timeout_s=_COMMAND_S)
        found = msgspec.json.decode(listed.stdout or "[]", type=list[_KernelRoute])
        have = {Route(route.dst, route.gateway) for route in found if route.gateway}
        for route in sorted(wanted - have):
            self._ip("replace", route.pod_cidr, "via", route.via)
        keep = {route.pod_cidr for route in wanted}
        for route in sorted(have - wanted):
            if route.pod_cidr not in keep:  # the others were replaced above
                self._ip("del", route.pod_cidr, "via", route.via)
        self._service_route({route.dst for route in found})
        self._applied.routes = wanted

    def _service_route(self, have: set[str]) -> None:
        """A node without a default route must still find one for ClusterIPs, before their destination is rewritten."""
        if self._config.service_cidr in have:
            return
        devices = self._shell.run(["ip", "-json", "-4", "address", "show", "to", self._config.node_ip])
        named = [entry["ifname"] for entry in msgspec.json.decode(devices.stdout or "[]") if entry.get("ifname")]
        if named:
            self._ip("replace", self._config.service_cidr, "dev", named[0])

    def _ip(self, verb: str, *words: str) -> None:
        argv = ["ip", "route", verb, *words, "proto", ROUTE_PROTOCOL]
        self._shell.run(argv, timeout_s=_COMMAND_S, check=verb != "del")

    def _forget(self, addresses: tuple[str, ...]) -> None:
        for address in addresses:  # exit code 1 where there is none
            self._shell.run(["conntrack", "-D", "-p", "udp", "--dst-nat", address], check=False, timeout_s=_COMMAND_S)


class Proxy:
    """Keeps a node's network as the API wants it."""

    def __init__(self, config: Config, client: Client, shell: Shell, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._network = Network(config, shell)
        self._wake = Wake()
        self._services = Informer(client, SERVICES, Service, on_change=self._wake.ring, clock=clock)
        self._slices = Informer(client, ENDPOINT_SLICES, EndpointSlice, on_change=self._wake.ring, clock=clock)
        self._nodes = Informer(client, NODES, Node, on_change=self._node_changed, clock=clock)
        self._seen_nodes: Mapping[str, tuple[str, str]] = {}

    def run(self, stop: Stop) -> None:
        """Until `stop`; rules and routes stay, so that Services work while we are away."""
        informers = (self._services, self._slices, self._nodes)
        for informer in informers:
            informer.start(stop)
        while not stop.is_set() and not all(informer.synced for informer in informers):
            self._wake.wait_s(0.5)
        _log.info("running", extra={"kv": {"node": self._config.node_name}})
        timing, backoff = self._config.timing, Backoff(base_s=0.2, cap_s=5.0)
        inspected_s = self._clock.monotonic_s()
        while not stop.is_set():
            if self._clock.monotonic_s() - inspected_s >= timing.proxy_full_sync_s:
                self._network.inspect()
                inspected_s = self._clock.monotonic_s()
            try:
                self._sync()
                backoff.reset()
                wait_s = timing.proxy_full_sync_s
                stop.wait_s(timing.proxy_min_sync_s)
            except CommandError as error:
                wait_s = backoff.next_s()
                _log.error("sync failed: %s", error, extra={"kv": {"again_s": round(wait_s, 1)}})
            self._rest(stop, wait_s)

    def _rest(self, stop: Stop, wait_s: float) -> None:
        """Until something changes, `wait_s` is over, or the end is asked for (noticed within a second)."""
        end_s = self._clock.monotonic_s() + wait_s
        while not stop.is_set() and (left_s := end_s - self._clock.monotonic_s()) > 0:
            if self._wake.wait_s(min(left_s, 1.0)):
                return

    def _sync(self) -> None:
        begin_s = self._clock.monotonic_s()
        targets = plan.targets(
            self._services.snapshot().values(), self._slices.snapshot().values(), self._config.node_name
        )
        routes = plan.routes(_networks(self._nodes.snapshot()), self._config.node_name)
        if self._network.apply(targets, routes):
            took_ms = round(1_000 * (self._clock.monotonic_s() - begin_s))
            _log.info("synced", extra={"kv": {"ports": len(targets), "routes": len(routes), "took_ms": took_ms}})

    def _node_changed(self) -> None:
        """Heartbeats touch Nodes all the time; only their networks matter here."""
        networks = _networks(self._nodes.snapshot())
        if networks != self._seen_nodes:
            self._seen_nodes = networks
            self._wake.ring()


def _networks(nodes: Mapping[str, Node]) -> Mapping[str, tuple[str, str]]:
    return {name: (node.spec.pod_cidr, node.internal_ip) for name, node in nodes.items()}
