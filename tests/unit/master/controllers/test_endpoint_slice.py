from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from master.controllers.catalog.endpoint_slice import plan
from master.controllers.protocol import Create, Delete, Patch, Plan
from tests.unit.master.controllers.world import actions, meta, node, pod, world


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {
        "metadata": meta(name, labels={"team": "blue"}),
        "spec": {"selector": {"app": "web"}, "ports": ports, "clusterIP": "10.96.0.5", **spec},
    }


def running(number: int, **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {"ready": True, "node": "w1"} | more
    return pod(f"p{number:03d}", ip=f"10.0.{number // 256}.{number % 256}", **known)


def decide(
    pods: list[dict[str, Any]],
    slices: tuple[dict[str, Any], ...] = (),
    services: tuple[dict[str, Any], ...] = (service(),),
) -> Plan:
    zone = node("w1", labels={"topology.kubernetes.io/zone": "z1"})
    objects = {SERVICES: list(services), PODS: pods, ENDPOINT_SLICES: list(slices), NODES: [zone]}
    return plan(world(objects), None)


def stored(decided: Plan, name: str = "web-x") -> dict[str, Any]:
    """The slice that a plan creates, as the API would have it next time."""
    body = actions(decided, Create)[0].body
    return {**body, "metadata": {**body["metadata"], "name": name, "uid": f"uid-{name}", "resourceVersion": "1"}}


def entries(decided: Plan) -> list[dict[str, Any]]:
    return [entry for action in actions(decided, Create) for entry in action.body["endpoints"]]


def test_pods_of_a_node_that_is_gone_are_left_out_unless_published_anyway() -> None:
    pods = [running(1), running(2, node="gone")]
    assert [entry["addresses"] for entry in entries(decide(pods))] == [("10.0.0.1",)]
    published = decide(pods, services=(service(publishNotReadyAddresses=True),))
    assert len(entries(published)) == 2


def test_a_slice_says_where_the_ready_pods_are() -> None:
    body = actions(decide([running(1)]), Create)[0].body
    assert body["endpoints"] == [
        {
            "addresses": ("10.0.0.1",),
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "w1",
            "zone": "z1",
            "targetRef": {"kind": "Pod", "name": "p001", "namespace": "default", "uid": "uid-p001"},
        }
    ]
    assert body["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert body["metadata"]["labels"] == {
        "team": "blue",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert body["metadata"]["ownerReferences"][0]["kind"] == "Service"


def test_nothing_is_written_once_the_slice_says_it() -> None:
    first = decide([running(1), running(2)])
    assert decide([running(1), running(2)], (stored(first),)).steps == ()


def test_a_pod_that_stops_being_ready_is_marked_in_the_same_pass() -> None:
    first = stored(decide([running(1), running(2)]))
    (change,) = actions(decide([running(1), running(2, ready=False, phase="Running")], (first,)), Patch)
    ready = {entry["targetRef"]["name"]: entry["conditions"]["ready"] for entry in change.body["endpoints"]}
    assert ready == {"p001": True, "p002": False}
    assert change.body["metadata"]["resourceVersion"] == "1"


def test_a_terminating_pod_that_still_answers_serves_but_is_not_ready() -> None:
    (entry,) = entries(decide([running(1, deletionTimestamp="2026-06-01T00:00:00Z")]))
    assert entry["conditions"] == {"ready": False, "serving": True, "terminating": True}


@pytest.mark.parametrize(
    "absent",
    [pod("a", ready=True), pod("a", ip="10.0.0.9", phase="Failed"), pod("a", ip="10.0.0.9", labels={"app": "x"})],
)
def test_pods_without_an_address_finished_or_not_selected_are_left_out(absent: dict[str, Any]) -> None:
    assert [entry["targetRef"]["name"] for entry in entries(decide([absent, running(1)]))] == ["p001"]


def test_publish_not_ready_addresses_makes_every_pod_ready() -> None:
    wanted = service(publishNotReadyAddresses=True)
    (entry,) = entries(decide([running(1, ready=False, phase="Running")], services=(wanted,)))
    assert entry["conditions"]["ready"] is True
    assert entry["conditions"]["serving"] is False


def test_a_named_port_is_looked_up_on_each_pod_and_pods_that_differ_get_slices_of_their_own() -> None:
    named = service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])

    def listening(number: int, port: int) -> dict[str, Any]:
        containers = [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]
        return running(number, spec={"containers": containers})

    decided = decide([listening(1, 8080), listening(2, 9090), listening(3, 8080)], services=(named,))
    found = {
        action.body["ports"][0]["port"]: [entry["targetRef"]["name"] for entry in action.body["endpoints"]]
        for action in actions(decided, Create)
    }
    assert found == {8080: ["p001", "p003"], 9090: ["p002"]}


def test_more_than_a_hundred_endpoints_take_more_than_one_slice() -> None:
    sizes = sorted(
        len(action.body["endpoints"]) for action in actions(decide([running(n) for n in range(250)]), Create)
    )
    assert sizes == [50, 100, 100]


def test_one_pod_more_touches_one_slice_only() -> None:
    decided = decide([running(number) for number in range(150)])
    slices = []
    for number, action in enumerate(actions(decided, Create)):
        head = {"name": f"web-{number}", "uid": f"uid-{number}", "resourceVersion": "1"}
        slices.append({**action.body, "metadata": {**action.body["metadata"], **head}})
    assert len(slices) == 2
    more = decide([running(number) for number in range(151)], tuple(slices))
    assert len(actions(more)) == 1


def test_a_service_without_pods_keeps_one_empty_slice() -> None:
    first = stored(decide([running(1)]))
    (change,) = actions(decide([], (first,)))
    assert isinstance(change, Patch)
    assert change.body["endpoints"] == []


def test_a_service_without_a_selector_is_none_of_ours() -> None:
    assert decide([running(1)], services=(service(selector={}),)).steps == ()


def test_slices_of_a_service_that_is_gone_go_too_and_foreign_slices_stay() -> None:
    first = stored(decide([running(1)]))
    foreign = {**first, "metadata": meta("theirs", labels={"kubernetes.io/service-name": "web"})}
    decided = decide([running(1)], (first, foreign), services=())
    assert [action.name for action in actions(decided, Delete)] == ["web-x"]
