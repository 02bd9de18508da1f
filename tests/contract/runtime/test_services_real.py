"""kube-proxy's rules carried by this machine's kernel: a client, two nodes and their pods as network namespaces."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from agents.proxy.plan import Plan, plan
from agents.proxy.views import EndpointSlice, Node, Service
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.contract.runtime.netlab import CLIENT_IP, LabNode, NetLab, talk

VIP, NODE_PORT = "10.215.0.10", 30080
A1, A2, B1 = ("10.214.1.2", "a"), ("10.214.1.3", "a"), ("10.214.2.2", "b")


@pytest.fixture(scope="module")
def wired() -> Iterator[NetLab]:
    lab = NetLab()
    yield lab
    lab.close()


@pytest.fixture
def lab(wired: NetLab) -> NetLab:
    """Both nodes carry one Service with all three pods behind it."""
    show(wired, endpoints(A1, A2, B1))
    return wired


def endpoints(*where: tuple[str, str], **conditions: bool) -> list[dict[str, Any]]:
    return [{"addresses": [ip], "nodeName": node, "conditions": {"ready": True, **conditions}} for ip, node in where]


def wanted(node: LabNode, found: list[dict[str, Any]], *, dead: str = "", protocol: str = "TCP", **spec: Any) -> Plan:
    service = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "type": "NodePort",
            "clusterIP": VIP,
            "ports": [{"port": 80, "nodePort": NODE_PORT, "protocol": protocol}],
            **spec,
        },
    }
    piece = {
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": found,
        "ports": [{"name": None, "port": 8080, "protocol": protocol}],
    }
    nodes = [
        {
            "metadata": {"name": name},
            "spec": {"podCIDR": cidr},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}],
                "conditions": [{"type": "Ready", "status": "Unknown" if name == dead else "True"}],
            },
        }
        for name, cidr, address in (("a", "10.214.1.0/24", "10.216.0.11"), ("b", "10.214.2.0/24", "10.216.0.12"))
    ]
    return plan(
        [msgspec.convert(service, Service)],
        [msgspec.convert(piece, EndpointSlice)],
        [msgspec.convert(entry, Node) for entry in nodes],
        node_name=node.short,
    )


def show(lab: NetLab, found: list[dict[str, Any]], **more: Any) -> None:
    """Both nodes see these endpoints."""
    for node in (lab.a, lab.b):
        node.apply(wanted(node, found, **more))


def test_pods_reach_all_endpoints_through_the_cluster_ip_and_are_seen_as_themselves(lab: NetLab) -> None:
    seen = {lab.a1.ask(VIP, 80) for _ in range(40)} - {("a1", lab.a.gateway)}
    assert seen == {("a2", "10.214.1.2"), ("b1", "10.214.1.2")}


def test_a_pod_reaches_itself_through_its_service(lab: NetLab) -> None:
    show(lab, endpoints(B1))
    name, who = lab.b1.ask(VIP, 80)
    assert (name, who) == ("b1", lab.b.gateway)  # masqueraded, or it would answer itself directly


def test_the_nodes_own_processes_reach_cluster_ips_without_a_default_route(lab: NetLab) -> None:
    assert "default" not in lab.a.ip("route")
    assert {lab.a.ask(VIP, 80)[0] for _ in range(40)} == {"a1", "a2", "b1"}


def test_a_node_port_answers_on_every_node_from_every_endpoint(lab: NetLab) -> None:
    for node in (lab.a, lab.b):
        assert {lab.client.ask(node.address, NODE_PORT)[0] for _ in range(40)} == {"a1", "a2", "b1"}


def test_a_node_without_endpoints_passes_a_node_port_on(lab: NetLab) -> None:
    show(lab, endpoints(B1))
    assert lab.client.ask(lab.a.address, NODE_PORT) == ("b1", lab.a.address)


def test_policy_local_keeps_the_clients_address_and_drops_elsewhere(lab: NetLab) -> None:
    show(lab, endpoints(A1), externalTrafficPolicy="Local")
    assert lab.client.ask(lab.a.address, NODE_PORT) == ("a1", CLIENT_IP)
    with pytest.raises(TimeoutError):
        lab.client.ask(lab.b.address, NODE_PORT, timeout_s=0.5)
    assert lab.b1.ask(lab.b.address, NODE_PORT)[0] == "a1"  # inside the cluster, every endpoint counts
    assert lab.b.ask(lab.b.address, NODE_PORT)[0] == "a1"


def test_internal_policy_local_stays_on_the_node(lab: NetLab) -> None:
    show(lab, endpoints(A1, B1), internalTrafficPolicy="Local")
    assert {lab.a2.ask(VIP, 80)[0] for _ in range(20)} == {"a1"}
    show(lab, endpoints(B1), internalTrafficPolicy="Local")
    with pytest.raises(TimeoutError):
        lab.a2.ask(VIP, 80, timeout_s=0.5)


@pytest.mark.parametrize("who", ["pod", "node", "client"])
def test_a_service_without_endpoints_refuses_at_once(lab: NetLab, who: str) -> None:
    show(lab, [])
    place = {"pod": lab.a1, "node": lab.a, "client": lab.client}[who]
    address, port = (lab.a.address, NODE_PORT) if who == "client" else (VIP, 80)
    with pytest.raises(ConnectionRefusedError):
        place.ask(address, port)


def test_a_port_that_the_service_has_not_is_refused_at_once(lab: NetLab) -> None:
    for place in (lab.a1, lab.a):
        with pytest.raises(ConnectionRefusedError):
            place.ask(VIP, 81)


def test_terminating_endpoints_serve_only_while_nobody_else_does(lab: NetLab) -> None:
    ending = endpoints(A1, ready=False, serving=True, terminating=True)
    show(lab, ending + endpoints(B1))
    assert {lab.a2.ask(VIP, 80)[0] for _ in range(20)} == {"b1"}
    show(lab, ending)
    assert lab.a2.ask(VIP, 80)[0] == "a1"


def test_a_sticky_client_keeps_its_endpoint_also_across_changes(lab: NetLab) -> None:
    show(lab, endpoints(A1, A2, B1), sessionAffinity="ClientIP")
    [first] = {lab.client.ask(lab.a.address, NODE_PORT)[0] for _ in range(20)}
    others = [place for place, name in ((A1, "a1"), (A2, "a2"), (B1, "b1")) if name != first]
    kept = next(place for place in (A1, A2, B1) if place not in others)
    show(lab, endpoints(kept, others[0]), sessionAffinity="ClientIP")
    assert {lab.client.ask(lab.a.address, NODE_PORT)[0] for _ in range(20)} == {first}
    show(lab, endpoints(*others), sessionAffinity="ClientIP")
    assert first not in {lab.client.ask(lab.a.address, NODE_PORT)[0] for _ in range(20)}
    show(lab, endpoints(A1, A2, B1))
    assert {lab.client.ask(lab.a.address, NODE_PORT)[0] for _ in range(40)} == {"a1", "a2", "b1"}
    assert "aff/" not in lab.a.shell.run(["ip", "netns", "exec", lab.a.name, "nft", "list", "ruleset"]).stdout


def test_a_udp_client_moves_on_when_its_endpoint_goes(lab: NetLab) -> None:
    show(lab, endpoints(A1), protocol="UDP")
    with lab.a2.datagram() as link:
        assert _exchange(link) == "a1"
        show(lab, endpoints(B1), protocol="UDP")
        assert _exchange(link) == "b1"


def test_a_udp_client_that_came_too_early_is_served_later(lab: NetLab) -> None:
    show(lab, [], protocol="UDP")
    with lab.client.datagram() as link:
        link.sendto(b"?", (lab.a.address, NODE_PORT))
        show(lab, endpoints(B1), protocol="UDP")
        assert _exchange(link, (lab.a.address, NODE_PORT)) == "b1"


def _exchange(link: socket.socket, to: tuple[str, int] = (VIP, 80)) -> str:
    def attempt() -> str:
        try:
            link.sendto(b"?", to)
            return link.recv(100).decode().partition(" ")[0]
        except OSError:
            return ""

    return wait_for(attempt, what="an answer", deadline_s=10, clock=SystemClock(), every_s=0.05)


@pytest.mark.parametrize("remaining", [[A1], []])
def test_a_connection_to_an_endpoint_that_vanished_ends_at_once(lab: NetLab, remaining: list[tuple[str, str]]) -> None:
    show(lab, endpoints(B1))
    with lab.a2.connect(VIP, 80) as link:
        assert talk(link)[0] == "b1"
        lab.client.ip("link", "set", "to-b", "down")  # the power goes: nobody says goodbye
        try:
            show(lab, endpoints(*remaining))
            with pytest.raises(ConnectionError):
                talk(link)
        finally:
            lab.client.ip("link", "set", "to-b", "up")


def test_a_condemned_endpoint_on_a_dead_node_counts_as_vanished(lab: NetLab) -> None:
    show(lab, endpoints(B1))
    with lab.a2.connect(VIP, 80) as link:
        assert talk(link)[0] == "b1"
        ending = endpoints(B1, ready=False, serving=False, terminating=True)
        show(lab, endpoints(A1) + ending)
        assert talk(link)[0] == "b1"  # its node lives: it may say goodbye
        show(lab, endpoints(A1) + ending, dead="b")
        with pytest.raises(ConnectionError):
            talk(link)


def test_an_open_connection_outlives_its_endpoints_readiness(lab: NetLab) -> None:
    show(lab, endpoints(A1))
    with lab.client.connect(lab.b.address, NODE_PORT) as link:
        assert talk(link)[0] == "a1"
        show(lab, endpoints(B1) + endpoints(A1, ready=False, serving=True, terminating=True))
        assert talk(link)[0] == "a1"
        show(lab, endpoints(B1) + endpoints(A1, ready=False))
        assert talk(link)[0] == "a1"


def test_pods_reach_the_world_outside_under_their_nodes_address(lab: NetLab) -> None:
    assert lab.a1.ask(CLIENT_IP, 9090) == ("client", lab.a.address)


def test_pods_of_two_nodes_talk_without_translation(lab: NetLab) -> None:
    assert lab.a1.ask("10.214.2.2", 8080) == ("b1", "10.214.1.2")


def test_nothing_is_done_without_a_change(lab: NetLab) -> None:
    same = wanted(lab.a, endpoints(A1, A2, B1))
    assert not lab.a.apply(same)
    assert not lab.a.apply(same, look=True)


def test_rules_and_routes_that_somebody_removed_come_back(lab: NetLab) -> None:
    lab.a.shell.run(["ip", "netns", "exec", lab.a.name, "nft", "flush", "ruleset"])
    lab.a.ip("route", "delete", "10.214.2.0/24")
    assert lab.a.apply(wanted(lab.a, endpoints(A1, A2, B1)), look=True)
    assert {lab.a1.ask(VIP, 80)[0] for _ in range(40)} == {"a1", "a2", "b1"}


def test_a_new_proxy_takes_over_the_table_of_the_old_one(lab: NetLab) -> None:
    show(lab, endpoints(A1, A2), sessionAffinity="ClientIP")
    [first] = {lab.client.ask(lab.a.address, NODE_PORT)[0] for _ in range(10)}
    lab.a.network = type(lab.a.network)(lab.a.network._config, lab.a.shell, lab.a.network._kernel)
    show(lab, endpoints(A1, A2, B1), sessionAffinity="ClientIP")
    assert {lab.client.ask(lab.a.address, NODE_PORT)[0] for _ in range(20)} == {first}


def test_a_table_that_does_not_fit_is_made_anew(lab: NetLab) -> None:
    script = "add table ip labctl-proxy; delete table ip labctl-proxy; add table ip labctl-proxy; "
    script += "add map ip labctl-proxy service-ips { type ipv4_addr : verdict ; }"
    lab.a.shell.run(["ip", "netns", "exec", lab.a.name, "nft", script])
    lab.a.apply(wanted(lab.a, endpoints(B1)), look=True)
    assert lab.a1.ask(VIP, 80)[0] == "b1"


def test_only_our_own_routes_are_removed(lab: NetLab) -> None:
    lab.a.ip("route", "add", "10.217.0.0/16", "via", CLIENT_IP)
    lab.a.ip("route", "add", "10.218.0.0/16", "via", CLIENT_IP, "proto", "77")
    lab.a.apply(wanted(lab.a, endpoints(A1)), look=True)
    table = lab.a.ip("route")
    lab.a.ip("route", "delete", "10.217.0.0/16")
    assert "10.217.0.0/16" in table
    assert "10.218.0.0/16" not in table
    assert "10.214.2.0/24 via 10.216.0.12" in table
