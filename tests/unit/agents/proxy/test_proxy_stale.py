"""Which tracked connections are cut when endpoints come and go, and which must never be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.proxy.netlink import Flow
from agents.proxy.plan import Plan
from agents.proxy.stale import may_have_stale, stale
from tests.unit.agents.proxy.cluster import endpoint, pieces, planned, service

NODE_IP = "10.0.0.1"
PORTS = {"TCP": [{"port": 80, "nodePort": 30080}], "UDP": [{"port": 80, "nodePort": 30080, "protocol": "UDP"}]}


def world(*addresses: str, protocol: str = "TCP", **conditions: bool) -> Plan:
    offered = [{"port": 8080, "protocol": protocol}]
    ends = [endpoint(address, **conditions) for address in addresses]
    return planned(service(ports=PORTS[protocol], type="NodePort"), pieces(*ends, ports=offered))


def flow(end: str = "10.1.0.2", *, to: str = "10.96.0.10", port: int = 80, protocol: str = "tcp") -> Flow:
    return Flow(protocol, "10.1.0.9", to, port, end, 8080)


def cut(one: Flow, before: Plan | None, now: Plan) -> bool:
    return stale([one], before, now, node_ip=NODE_IP) == [one]


@pytest.mark.parametrize(("to", "port"), [("10.96.0.10", 80), (NODE_IP, 30080), ("10.0.0.7", 30080)])
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_flow_to_an_endpoint_that_is_gone_is_cut(to: str, port: int, protocol: str) -> None:
    one = flow(to=to, port=port, protocol=protocol.lower())
    assert cut(one, world("10.1.0.2", protocol=protocol), world("10.1.0.3", protocol=protocol))
    assert not cut(one, None, world("10.1.0.2", protocol=protocol))


def test_a_connection_to_an_unready_endpoint_goes_on() -> None:
    assert not cut(flow(), world("10.1.0.2"), world("10.1.0.2", ready=False))
    assert not cut(flow(), world("10.1.0.2"), world("10.1.0.2", ready=False, serving=False, terminating=True))


def test_a_connection_that_both_ends_have_closed_is_left_to_the_kernel() -> None:
    assert not cut(replace(flow(), over=True), world("10.1.0.2"), world("10.1.0.3"))


def test_a_datagram_flow_moves_on_as_soon_as_its_endpoint_is_unready() -> None:
    assert cut(flow(protocol="udp"), None, world("10.1.0.2", protocol="UDP", ready=False))


def test_flows_that_are_not_of_a_service_are_none_of_our_business() -> None:
    now = world("10.1.0.3")
    assert not cut(flow(to="192.0.2.1"), None, now)
    assert not cut(flow(port=81), None, now)
    assert not cut(Flow("tcp", "10.1.0.9", "192.0.2.1", 30080, "192.0.2.1", 30080), None, now)
    assert not cut(Flow("udp", "10.1.0.9", "10.96.0.10", 80, "10.1.0.2", 8080), None, now)


def test_datagrams_sent_before_there_was_an_endpoint_are_let_through_once_there_is() -> None:
    early = Flow("udp", "10.1.0.9", "10.96.0.10", 80, "10.96.0.10", 80)
    assert not cut(early, None, world(protocol="UDP"))
    assert cut(early, world(protocol="UDP"), world("10.1.0.2", protocol="UDP"))


def test_datagram_flows_of_a_deleted_service_are_cut_and_connections_are_left_to_their_endpoint() -> None:
    nothing = planned()
    assert cut(flow(protocol="udp"), world("10.1.0.2", protocol="UDP"), nothing)
    before = world("10.1.0.2")
    assert not cut(flow(), before, nothing)


def test_nothing_is_looked_up_unless_an_endpoint_went() -> None:
    one, two = world("10.1.0.2"), world("10.1.0.2", "10.1.0.3")
    assert may_have_stale(None, one)
    assert not may_have_stale(one, one)
    assert not may_have_stale(one, two)
    assert may_have_stale(two, one)
    assert may_have_stale(one, planned())
    assert may_have_stale(world(protocol="UDP"), world("10.1.0.2", protocol="UDP"))
