"""Which endpoints a Service's traffic may go to, and which routes a node needs."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from agents.proxy.plan import Portal, Target
from agents.proxy.views import EndpointSlice, Service
from tests.unit.agents.proxy.cluster import endpoint, node, pieces, planned, service


def targets(*addresses: str, port: int = 8080) -> tuple[Target, ...]:
    return tuple(Target(address, port) for address in addresses)


def portal(*objects: Any) -> Portal:
    [found] = planned(*objects).portals
    return found


def test_ready_endpoints_of_all_slices_serve() -> None:
    found = portal(service(), pieces(endpoint("10.1.0.2")), pieces(endpoint("10.1.1.2", "b")))
    assert found.everywhere == targets("10.1.0.2", "10.1.1.2")
    assert found.local == targets("10.1.0.2")
    assert (found.cluster_ip, found.port, found.protocol) == ("10.96.0.10", 80, "tcp")


def test_endpoints_that_are_not_ready_do_not_serve_but_keep_their_connections() -> None:
    found = portal(service(), pieces(endpoint("10.1.0.2", ready=False), endpoint("10.1.0.3")))
    assert found.everywhere == targets("10.1.0.3")
    assert found.alive == targets("10.1.0.2", "10.1.0.3")


def test_unknown_conditions_count_as_ready_and_not_ending() -> None:
    unknown = {"addresses": ["10.1.0.2"], "conditions": {"ready": None, "serving": None, "terminating": None}}
    assert portal(service(), pieces(unknown)).everywhere == targets("10.1.0.2")
    assert portal(service(), pieces({"addresses": ["10.1.0.2"]})).everywhere == targets("10.1.0.2")


ENDING = {"ready": False, "serving": True, "terminating": True}


def test_ending_endpoints_serve_only_where_no_ready_one_is() -> None:
    assert portal(service(), pieces(endpoint("10.1.0.2", **ENDING))).everywhere == targets("10.1.0.2")
    both = pieces(endpoint("10.1.0.2", **ENDING), endpoint("10.1.0.3"))
    assert portal(service(), both).everywhere == targets("10.1.0.3")
    dead = endpoint("10.1.0.2", ready=False, serving=False, terminating=True)
    assert portal(service(), pieces(dead)).everywhere == ()


def test_local_policies_choose_among_this_nodes_endpoints_alone() -> None:
    objects = pieces(endpoint("10.1.0.2", **ENDING), endpoint("10.1.1.2", "b"))
    found = portal(service(type="NodePort", externalTrafficPolicy="Local", internalTrafficPolicy="Local"), objects)
    assert (found.internal_local, found.external_local) == (True, True)
    assert (found.everywhere, found.here) == (targets("10.1.1.2"), targets("10.1.0.2"))


def test_an_ending_endpoint_on_a_dead_node_is_condemned_but_not_a_serving_or_a_merely_unready_one() -> None:
    lost = node("b", ready="Unknown")
    gone = endpoint("10.1.1.2", "b", ready=False, serving=False, terminating=True)
    unready = endpoint("10.1.1.3", "b", ready=False, serving=False, terminating=False)
    assert portal(service(), pieces(gone, unready), lost).alive == targets("10.1.1.3")
    assert portal(service(), pieces(gone, unready), node("b")).alive == targets("10.1.1.2", "10.1.1.3")


def test_named_ports_and_protocols_find_their_own() -> None:
    ports = [{"name": "web", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    offered = [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "web", "port": 8080, "protocol": "TCP"}]
    found = planned(service(ports=ports), pieces(endpoint("10.1.0.2"), ports=offered)).portals
    assert {(entry.protocol, entry.everywhere[0].port) for entry in found} == {("tcp", 8080), ("udp", 5353)}


def test_an_endpoint_in_two_slices_counts_once_and_with_its_better_news() -> None:
    found = portal(service(), pieces(endpoint("10.1.0.2", ready=False)), pieces(endpoint("10.1.0.2")))
    assert found.everywhere == targets("10.1.0.2")


@pytest.mark.parametrize(
    "spec",
    [
        {"ip": "None"},
        {"ip": ""},
        {"type": "ExternalName"},
        {"ip": "fd00::1"},
        {"ports": [{"port": 1, "protocol": "QUIC"}]},
    ],
)
def test_what_has_no_address_of_ours_is_left_alone(spec: dict[str, Any]) -> None:
    assert planned(service(**spec), pieces(endpoint("10.1.0.2"))).portals == ()


def test_a_slice_of_another_family_or_of_nobody_is_ignored() -> None:
    stray = msgspec.structs.replace(
        pieces(endpoint("10.1.0.9")), metadata=pieces().metadata.__class__(namespace="default")
    )
    six = pieces({"addresses": ["fd00::2"]}, addressType="IPv6")
    assert portal(service(), stray, six).everywhere == ()


def test_node_ports_and_outside_addresses_belong_to_their_types() -> None:
    ports = [{"port": 80, "nodePort": 30080}]
    assert portal(service(ports=ports)).node_port == 0
    assert portal(service(ports=ports, type="NodePort")).node_port == 30080
    document = {
        "metadata": {"name": "lb", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.11", "ports": ports, "externalIPs": ["192.0.2.2"]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "x"}]}},
    }
    assert portal(msgspec.convert(document, Service)).external_ips == ("192.0.2.1", "192.0.2.2")


def test_affinity_has_upstreams_default() -> None:
    assert portal(service(sessionAffinity="None")).affinity_s == 0
    assert portal(service(sessionAffinity="ClientIP")).affinity_s == 10_800
    config = {"clientIP": {"timeoutSeconds": 5}}
    assert portal(service(sessionAffinity="ClientIP", sessionAffinityConfig=config)).affinity_s == 5


def test_lists_that_go_writes_as_null_are_empty() -> None:
    raw = b'{"metadata":{"name":"w","namespace":"default"},"addressType":"IPv4","endpoints":null,"ports":null}'
    assert portal(service(), msgspec.json.decode(raw, type=EndpointSlice)).everywhere == ()


def test_routes_lead_to_every_other_node_that_has_both_range_and_address() -> None:
    nodes = (
        node("a", "10.1.0.0/24", "10.0.0.1"),
        node("b", "10.1.1.0/24", "10.0.0.2"),
        node("c", None, "10.0.0.3"),
        node("d", "10.1.3.0/24"),
    )
    assert planned(*nodes).routes == {"10.1.1.0/24": "10.0.0.2"}


def test_the_order_of_what_is_seen_does_not_matter() -> None:
    objects = [
        service(),
        service("two", ip="10.96.0.11"),
        pieces(endpoint("10.1.0.2"), endpoint("10.1.1.2", "b")),
        pieces(endpoint("10.1.0.3"), name="two"),
        node("b", "10.1.1.0/24", "10.0.0.2"),
    ]
    found = [planned(*order) for order in itertools.permutations(objects)]
    assert all(one == found[0] for one in found)
