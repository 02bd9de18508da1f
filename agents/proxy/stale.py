"""Decide which tracked connections no longer lead anywhere. Pure.

UDP, as upstream: a flow sticks to the endpoint it began with, so it is cut once that endpoint may no longer be used
(k/k `pkg/proxy/conntrack/cleanup.go`). TCP: upstream cuts nothing, so that an endpoint that ends gracefully can finish
its connections; but then a client of an endpoint that vanished hangs for minutes (kubernetes/kubernetes#100698). We
cut a TCP connection only when nobody is left to finish it: its endpoint is gone from every EndpointSlice, or it is
condemned on a node that the cluster holds for dead. The client's next packet then meets another endpoint, which
resets the connection at once. What both ends have closed needs no cut; of those there are many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agents.proxy.netlink import Flow
from agents.proxy.plan import Plan, Portal, Target


def may_have_stale(before: Plan | None, now: Plan) -> bool:
    """Whether a change of plans can have left a connection behind; always after a start."""
    if before is None:
        return True
    new = {portal.key: portal for portal in now.portals}
    for old in before.portals:
        fresh = new.get(old.key)
        if fresh is None or not set(old.alive) <= set(fresh.alive):
            return True
        if old.protocol == "udp" and old.everywhere != fresh.everywhere:
            return True
    return False


def stale(flows: Iterable[Flow], before: Plan | None, now: Plan, *, node_ip: str) -> list[Flow]:
    """The flows to forget."""
    by_address: dict[tuple[str, str, int], Portal] = {}
    by_node_port: dict[tuple[str, int], Portal] = {}
    kept = {portal.key for portal in now.portals}
    gone = [replace(old, everywhere=(), here=()) for old in (before.portals if before else ()) if old.key not in kept]
    for portal in (*gone, *now.portals):
        for address in (portal.cluster_ip, *portal.external_ips):
            by_address[address, portal.protocol, portal.port] = portal
        if portal.node_port:
            by_node_port[portal.protocol, portal.node_port] = portal
    found = []
    for flow in flows:
        portal_of = _portal(flow, by_address, by_node_port, node_ip)
        if portal_of is not None and _leads_nowhere(flow, portal_of):
            found.append(flow)
    return found


def _portal(
    flow: Flow,
    by_address: Mapping[tuple[str, str, int], Portal],
    by_node_port: Mapping[tuple[str, int], Portal],
    node_ip: str,
) -> Portal | None:
    if portal := by_address.get((flow.destination, flow.protocol, flow.port)):
        return portal
    rewritten = flow.answers_from != flow.destination
    if rewritten or flow.destination == node_ip:
        return by_node_port.get((flow.protocol, flow.port))
    return None


def _leads_nowhere(flow: Flow, portal: Portal) -> bool:
    target = Target(flow.answers_from, flow.answers_port)
    rewritten = flow.answers_from != flow.destination
    if portal.protocol != "udp":
        return rewritten and target not in portal.alive and not flow.over
    if not rewritten:
        return bool(portal.everywhere)  # it began before there was an endpoint
    return target not in {*portal.everywhere, *portal.here}
