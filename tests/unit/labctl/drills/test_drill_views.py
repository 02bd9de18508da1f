"""Reading what the API and the machines say."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from labctl.drills import inside, views
from labctl.drills.inspection import differences
from labctl.drills.records import Counted, EndpointSeen, SliceSeen
from labctl.drills.timeline import toleration_s
from tests.unit.labctl.drills.drill_tales import inspected


def raw(document: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(document).encode())


def test_a_pod_tells_its_owner_its_condition_and_how_long_it_tolerates_silence() -> None:
    pod = views.pod(
        "ADDED",
        raw(
            {
                "metadata": {
                    "name": "web-1", "namespace": "default", "uid": "u", "resourceVersion": "7",
                    "deletionTimestamp": "2026-01-31T08:00:00Z", "labels": {"app": "web"},
                    "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": True}],
                },
                "spec": {
                    "nodeName": "worker1",
                    "tolerations": [
                        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "tolerationSeconds": 300},
                        {"key": "other", "effect": "NoSchedule"},
                    ],
                },
                "status": {
                    "phase": "Running",
                    "podIP": "10.244.0.2",
                    "conditions": [
                        {"type": "Ready", "status": "True"},
                        {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"},
                    ],
                },
            }
        ),
    )  # fmt: skip
    assert (pod.owner, pod.ready, pod.deleting, pod.disruption) == (
        "ReplicaSet/web", True, True, "DeletionByTaintManager",
    )  # fmt: skip
    assert pod.tolerates_s == {"node.kubernetes.io/unreachable": 300}
    assert toleration_s(pod) == 300


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([], 0.0),
        ([{"operator": "Exists"}], None),
        ([{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}], None),
        ([{"key": "node.kubernetes.io/not-ready", "tolerationSeconds": 5}], 0.0),
    ],
)
def test_how_long_a_pod_stays_on_an_unreachable_node(tolerations: list[dict[str, Any]], seconds: float | None) -> None:
    pod = views.pod("ADDED", raw({"metadata": {"name": "x"}, "spec": {"tolerations": tolerations}}))
    assert toleration_s(pod) == seconds


def test_an_endpoint_without_a_ready_condition_counts_as_ready() -> None:
    seen = views.endpoint_slice("ADDED", raw({"metadata": {"name": "s"}, "endpoints": [{"addresses": ["10.0.0.1"]}]}))
    assert seen.endpoints[0].ready


def test_a_fresh_object_without_spec_or_status_is_read() -> None:
    assert views.node("ADDED", raw({"metadata": {"name": "n"}})).ready == ""
    assert views.set_like("Deployment", raw({"metadata": {"name": "d", "generation": 1}})).observed is False


LINE = {
    "ID": "abc",
    "Status": "Up",
    "Labels": "io.kubernetes.container.name=web,io.kubernetes.pod.name=web-1,io.kubernetes.pod.namespace=default,"
    'io.kubernetes.pod.uid=u1,nerdctl/networks=["ns:/run/netns/x","y"]',
}


def test_containers_are_told_by_their_labels_and_others_left_out() -> None:
    other = {"ID": "zzz", "Status": "Up", "Labels": "nerdctl/name=mine"}
    dead = {**LINE, "ID": "def", "Status": "Exited (0) 3 seconds ago"}
    counted = inside.parse("worker1", "\n".join(json.dumps(line) for line in (LINE, other, dead)) + "\n--- rules ---\n")
    assert [(one.id, one.pod, one.uid, one.name, one.running) for one in counted.containers] == [
        ("abc", "web-1", "u1", "web", True),
        ("def", "web-1", "u1", "web", False),
    ]


def test_addresses_in_rules_are_found_but_not_networks() -> None:
    rules = "ip saddr 10.244.0.0/16 masquerade\n0 : 10.244.1.5 . 8080, 1 : 10.244.2.7 . 8080\nip daddr { 10.96.0.1 }"
    assert inside.parse("w", f"--- rules ---\n{rules}").rule_addresses == ("10.244.1.5", "10.244.2.7", "10.96.0.1")


def test_an_answer_that_is_no_json_is_an_error_of_that_machine_only() -> None:
    with pytest.raises(msgspec.MsgspecError):
        inside.parse("worker1", "time=... level=warning msg=oops\n--- rules ---\n")


def test_an_endpoint_of_a_pod_that_is_gone_is_a_difference() -> None:
    stale = SliceSeen(
        event="NOW", rv="1", namespace="default", name="web-1", service="web",
        endpoints=(EndpointSeen(address="10.244.0.9", node="worker1", pod="web-z", ready=True),),
    )  # fmt: skip
    found = msgspec.structs.replace(inspected("healed", "worker2", "worker2", "worker2"), slices=(stale,))
    assert differences(found) == ("slice default/web-1: 10.244.0.9 is ready, but no ready pod has it",)


def test_a_pod_that_is_ready_without_a_container_is_a_difference() -> None:
    empty = (Counted(node="worker1"), Counted(node="worker2"))
    found = msgspec.structs.replace(inspected("healed", "worker2", "worker2", "worker2"), machines=empty)
    assert all("none of its containers runs" in text for text in differences(found))
    assert len(differences(found)) == 3
