"""Observe, decide, apply: woken by changes, no more often than the profile says, and now and then to look after it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from agents.proxy import render
from agents.proxy.config import Config
from agents.proxy.netlink import Kernel
from agents.proxy.plan import Plan, plan
from agents.proxy.routes import Routes
from agents.proxy.rules import Rules
from agents.proxy.stale import may_have_stale, stale
from agents.proxy.views import EndpointSlice, Node, Service
from labctl.kube.client import Client
from labctl.kube.informer import Informer
from labctl.kube.resources import ENDPOINT_SLICES, NODES, SERVICES
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Backoff, Stop, Wake
from labctl.runtime.shell import Shell

_log = logging.getLogger(__name__)


class Network:
    """A node's rules, routes and connections, brought to a plan."""

    def __init__(self, config: Config, shell: Shell, kernel: Kernel) -> None:
        self._config, self._kernel = config, kernel
        self._rules = Rules(shell, kernel)
        self._routes = Routes(shell, node_ip=config.node_ip, service_cidr=config.service_cidr)
        self._connections: Plan | None = None  # the plan that tracked connections agree with

    def apply(self, wanted: Plan, *, look: bool = False) -> bool:
        """Make it so; whether something was changed. Raises LabError; what was done is not done again."""
        rules = render.ruleset(wanted, cluster_cidr=self._config.cluster_cidr, service_cidr=self._config.service_cidr)
        changed = self._rules.apply(rules, look=look)
        changed |= self._routes.apply(wanted.routes, look=look)
        self._forget(wanted)  # after the rules, or a packet in between would restore what was forgotten
        return changed

    def _forget(self, wanted: Plan) -> None:
        before = self._connections
        if may_have_stale(before, wanted):
            found = stale(self._kernel.flows(), before, wanted, node_ip=self._config.node_ip)
            if found:
                self._kernel.forget(found)
                ends = sorted({f"{flow.protocol}/{flow.answers_from}:{flow.answers_port}" for flow in found})
                _log.info("connections cut", extra={"kv": {"count": len(found), "to": ",".join(ends[:10])}})
        self._connections = wanted


class Proxy:
    """kube-proxy of one node."""

    def __init__(self, config: Config, client: Client, network: Network, clock: Clock) -> None:
        self._config, self._network, self._clock = config, network, clock
        self._wake = Wake()
        ring = self._wake.ring
        self._services = Informer(client, SERVICES, Service, on_change=ring, clock=clock)
        self._slices = Informer(client, ENDPOINT_SLICES, EndpointSlice, on_change=ring, clock=clock)
        self._nodes = Informer(client, NODES, Node, on_change=ring, clock=clock)

    def run(self, stop: Stop) -> None:
        """Until `stop`; rules and routes stay, as upstream's do, so that Services work while we are away."""
        let_forward()
        threading.Thread(target=self.follow, args=(stop,), name="sync", daemon=True).start()
        while not stop.wait_s(1.0):  # a SIGTERM that another thread took wakes nobody: looked for now and then
            pass

    def follow(self, stop: Stop) -> None:
        """Sync on changes until `stop`; nothing is touched before all three lists have arrived."""
        informers = (self._services.start(stop), self._slices.start(stop), self._nodes.start(stop))
        while not all(informer.synced for informer in informers):
            if stop.is_set():
                return
            self._wake.wait_s(1.0)
        timing, backoff, looked_s = self._config.timing, Backoff(base_s=0.2, cap_s=5.0), self._clock.monotonic_s()
        _log.info("running", extra={"kv": {"node": self._config.node_name, "profile": timing.name}})
        while not stop.is_set():
            begun_s = self._clock.monotonic_s()
            look = begun_s - looked_s >= timing.proxy_full_sync_s
            wait_s = timing.proxy_full_sync_s
            try:
                self._sync(look=look)
                backoff.reset()
                looked_s = begun_s if look else looked_s
            except LabError as error:
                wait_s = backoff.next_s()
                _log.error("sync failed: %s", error)
            stop.wait_s(timing.proxy_min_sync_s - (self._clock.monotonic_s() - begun_s))
            self._wake.wait_s(min(wait_s, max(0.0, looked_s + timing.proxy_full_sync_s - self._clock.monotonic_s())))

    def _sync(self, *, look: bool) -> None:
        begun_s = self._clock.monotonic_s()
        wanted = plan(
            self._services.snapshot().values(),
            self._slices.snapshot().values(),
            self._nodes.snapshot().values(),
            node_name=self._config.node_name,
        )
        if self._network.apply(wanted, look=look):
            took_ms = round((self._clock.monotonic_s() - begun_s) * 1000)
            counts = {"ports": len(wanted.portals), "routes": len(wanted.routes), "took_ms": took_ms}
            _log.info("synced", extra={"kv": counts})


def let_forward(knob: Path = Path("/proc/sys/net/ipv4/ip_forward")) -> None:
    """A NodePort's packets may have to go on to another node, also where no pod has been yet."""
    try:
        if knob.read_text(encoding="ascii").strip() != "1":
            knob.write_text("1", encoding="ascii")
    except OSError as error:
        _log.warning("%s cannot be set to 1, NodePorts may reach no endpoint on another node: %s", knob, error)
