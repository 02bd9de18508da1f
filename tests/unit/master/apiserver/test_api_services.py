"""ClusterIPs and NodePorts: each held by one Service at a time, given back when it lets go."""

from __future__ import annotations

from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import SERVICES, service


def ports(document: dict) -> list[int]:  # type: ignore[type-arg]
    return [port["nodePort"] for port in document["spec"]["ports"]]


def test_a_service_gets_an_address_of_the_range_for_itself(api: Api) -> None:
    made = [api.create(SERVICES, service(f"s{number}")) for number in range(20)]
    addresses = {entry["spec"]["clusterIP"] for entry in made}
    assert len(addresses) == 20
    assert all(address.startswith("10.96.0.") for address in addresses)
    assert made[0]["spec"]["clusterIPs"] == [made[0]["spec"]["clusterIP"]]


def test_the_api_has_the_first_address(api: Api) -> None:
    assert api.get(f"{SERVICES}/kubernetes").document["spec"]["clusterIP"] == "10.96.0.1"


def test_an_address_can_be_chosen_but_not_twice_and_not_outside(api: Api) -> None:
    assert api.create(SERVICES, service("a", clusterIP="10.96.0.77"))["spec"]["clusterIP"] == "10.96.0.77"
    taken = api.post(SERVICES, service("b", clusterIP="10.96.0.77"))
    assert (taken.code, "provided IP is already allocated" in taken.message) == (422, True)
    outside = api.post(SERVICES, service("b", clusterIP="192.0.2.7"))
    assert (outside.code, "not in the valid range" in outside.message) == (422, True)


def test_a_headless_service_has_no_address(api: Api) -> None:
    assert api.create(SERVICES, service(clusterIP="None"))["spec"]["clusterIPs"] == ["None"]


def test_node_ports_run_out_and_come_back(api: Api) -> None:
    made = [api.create(SERVICES, service(f"s{number}", type="NodePort")) for number in range(4)]
    assert {ports(entry)[0] for entry in made} == {30000, 30001, 30002, 30003}
    full = api.post(SERVICES, service("more", type="NodePort"))
    assert (full.code, "range is full" in full.message) == (422, True)
    api.delete(f"{SERVICES}/s0")
    assert ports(api.create(SERVICES, service("more", type="NodePort"))) == ports(made[0])


def test_what_a_refused_service_took_is_given_back(api: Api) -> None:
    for number in range(3):
        api.create(SERVICES, service(f"s{number}", type="NodePort"))
    two = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    assert api.post(SERVICES, service("two", type="NodePort", ports=two)).code == 422
    assert api.post(SERVICES, service("one", type="NodePort")).code == 201


def test_an_update_keeps_address_and_ports(api: Api) -> None:
    made = api.create(SERVICES, service(type="NodePort"))
    bare = service(type="NodePort", selector={"a": "b"})
    changed = api.put(f"{SERVICES}/s", bare).document
    assert (changed["spec"]["clusterIP"], ports(changed)) == (made["spec"]["clusterIP"], ports(made))


def test_a_service_that_stops_being_a_node_port_gives_its_port_back(api: Api) -> None:
    made = [api.create(SERVICES, service(f"s{number}", type="NodePort")) for number in range(4)]
    changed = api.patch(f"{SERVICES}/s1", {"spec": {"type": "ClusterIP"}}).document
    assert "nodePort" not in changed["spec"]["ports"][0]
    assert ports(api.create(SERVICES, service("next", type="NodePort"))) == ports(made[1])


def test_an_address_cannot_change(api: Api) -> None:
    api.create(SERVICES, service())
    answer = api.patch(f"{SERVICES}/s", {"spec": {"clusterIP": "10.96.0.99"}})
    assert (answer.code, "may not change once set" in answer.message) == (422, True)


def test_what_a_crash_left_behind_is_released_at_start(api: Api) -> None:
    store = api.server.context.storage.store
    store.create("/registry/labctl/nodeports/30000", b"{}")
    api.server.context.allocation.repair()
    assert store.get("/registry/labctl/nodeports/30000")[0] is None


def test_a_dry_run_takes_nothing(api: Api) -> None:
    for _ in range(6):
        assert api.post(f"{SERVICES}?dryRun=All", service(type="NodePort")).code == 201
    assert not api.server.context.storage.store.list("/registry/labctl/nodeports/").entries
