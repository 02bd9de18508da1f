"""Decisions of the whole cycle with every plugin, in upstream's words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from labctl.kube.selectors import Requirement
from master.scheduler.cluster import Cluster
from master.scheduler.protocol import Plugin, Ratings, scaled
from master.scheduler.snapshot import requests_of
from master.scheduler.views import Service
from tests.unit.master.scheduler.cluster import ALL, node, placed, pod, snapshot, why_not


def test_the_reasons_are_counted_and_put_in_upstream_s_words() -> None:
    nodes = [
        node("a", {"cpu": "1", "memory": "1Gi", "pods": "10"}),
        node("b", taints=("x:NoSchedule",)),
        node("c", taints=("y:NoExecute",)),
    ]
    message = (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). "
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    )
    assert why_not(nodes, pod("p", cpu="2")) == message


def test_without_any_node_it_says_so() -> None:
    assert why_not([], pod("p")) == "no nodes available to schedule pods"


@pytest.mark.parametrize(
    ("target", "item", "reason"),
    [
        (node("n", unschedulable=True), pod("p"), "node(s) were unschedulable"),
        (node("n"), pod("p", memory="9Gi"), "Insufficient memory"),
        (node("n"), pod("p", container={"resources": {"requests": {"gpu.io/x": "1"}}}), "Insufficient gpu.io/x"),
        (node("n", {"cpu": "4", "memory": "8Gi", "pods": "0"}), pod("p"), "Too many pods"),
        (node("n"), pod("p", nodeSelector={"disk": "ssd"}), "node(s) didn't match Pod's node affinity/selector"),
        (node("n", taints=("k=v:NoSchedule",)), pod("p"), "node(s) had untolerated taint(s)"),
    ],
)
def test_each_filter_gives_its_own_reason(target: Any, item: Any, reason: str) -> None:
    assert why_not([target], item).startswith(f"0/1 nodes are available: 1 {reason}. preemption: 0/1 nodes")


def test_a_node_short_of_two_things_names_both() -> None:
    message = "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. preemption: "
    assert why_not([node("n")], pod("p", cpu="5", memory="9Gi")).startswith(message)


def test_what_runs_on_a_node_is_taken_from_it() -> None:
    running = {"n": [pod("r", cpu="3")]}
    assert placed(snapshot([node("n")], [pod("p", cpu="1")], running)) == {"p": "n"}
    message = (
        "0/1 nodes are available: 1 Insufficient cpu. "
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )
    assert why_not([node("n")], pod("p", cpu="1001m"), running) == message


def test_pods_placed_earlier_in_the_cycle_count_for_those_after_them() -> None:
    found = placed(snapshot([node("n")], [pod(f"p{number}", cpu="1500m") for number in range(3)]))
    assert sorted(found.values()) == ["", "n", "n"]


def test_the_higher_priority_goes_first_and_among_equals_the_older() -> None:
    pods = [
        pod("young", cpu="3", meta={"creationTimestamp": "2026-01-02T00:00:00Z"}),
        pod("old", cpu="3", meta={"creationTimestamp": "2026-01-01T00:00:00Z"}),
        pod("important", cpu="3", priority=10, meta={"creationTimestamp": "2026-01-03T00:00:00Z"}),
    ]
    assert placed(snapshot([node("n")], pods)) == {"important": "n", "old": "", "young": ""}
    assert placed(snapshot([node("n")], pods[:2])) == {"old": "n", "young": ""}


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "k", "value": "other"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration: dict[str, str], tolerated: bool) -> None:
    tainted = node("n", taints=("k=v:NoSchedule",))
    assert placed(snapshot([tainted], [pod("p", tolerations=[toleration])])) == {"p": "n" if tolerated else ""}


def test_a_preferred_taint_is_avoided_while_there_is_another_node() -> None:
    nodes = [node("a", taints=("k:PreferNoSchedule",)), node("b")]
    assert placed(snapshot(nodes, [pod("p")], {"b": [pod("r", cpu="2", memory="4Gi")]})) == {"p": "b"}
    assert placed(snapshot(nodes[:1], [pod("p")])) == {"p": "a"}


def required(*expressions: dict[str, Any]) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "disk", "operator": "In", "values": ["ssd", "nvme"]}, True),
        ({"key": "disk", "operator": "NotIn", "values": ["ssd"]}, False),
        ({"key": "disk", "operator": "Exists"}, True),
        ({"key": "disk", "operator": "DoesNotExist"}, False),
        ({"key": "cores", "operator": "Gt", "values": ["4"]}, True),
        ({"key": "cores", "operator": "Lt", "values": ["8"]}, False),
    ],
)
def test_required_affinity(expression: dict[str, Any], fits: bool) -> None:
    labelled = node("n", labels={"disk": "ssd", "cores": "8"})
    assert placed(snapshot([labelled], [pod("p", affinity=required(expression))])) == {"p": "n" if fits else ""}


def test_preferred_affinity_pulls_by_its_weight() -> None:
    def wish(weight: int, value: str) -> dict[str, Any]:
        return {
            "weight": weight,
            "preference": {"matchExpressions": [{"key": "z", "operator": "In", "values": [value]}]},
        }

    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish(10, "a"), wish(90, "b")]}}
    nodes = [node("a", labels={"z": "a"}), node("b", labels={"z": "b"})]
    assert placed(snapshot(nodes, [pod("p", affinity=affinity)])) == {"p": "b"}


def port(number: int, ip: str = "") -> dict[str, Any]:
    return {"ports": [{"containerPort": 80, "hostPort": number, **({"hostIP": ip} if ip else {})}]}


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [(port(80), False), (port(81), True), (port(80, "10.0.0.2"), True), (port(80, "10.0.0.1"), False)],
)
def test_host_ports(wanted: dict[str, Any], fits: bool) -> None:
    running = {"n": [pod("r", container=port(80, "10.0.0.1"))]}
    assert placed(snapshot([node("n")], [pod("p", container=wanted)], running)) == {"p": "n" if fits else ""}


def test_the_emptier_node_is_preferred() -> None:
    assert placed(snapshot([node("a"), node("b")], [pod("p", cpu="1")], {"a": [pod("r", cpu="3")]})) == {"p": "b"}


def replica(name: str) -> Any:
    owner = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": True}]
    return pod(name, cpu="100m", meta={"labels": {"app": "web"}, "ownerReferences": owner})


def test_replicas_of_a_set_spread_over_the_nodes_even_where_one_is_fuller() -> None:
    running = {"a": [pod("r", cpu="1")]}
    sets = {("ReplicaSet", "default/web"): (Requirement("app", "In", ("web",)),)}
    pods = [replica(f"p{number}") for number in range(4)]
    found = placed(snapshot([node("a"), node("b")], pods, running, sets=sets))
    assert sorted(found.values()) == ["a", "a", "b", "b"]


def test_pods_of_a_service_spread_over_zones() -> None:
    service = msgspec.convert(
        {"metadata": {"name": "s", "namespace": "default"}, "spec": {"selector": {"app": "web"}}}, Service
    )
    nodes = [node(name, labels={"topology.kubernetes.io/zone": name[0]}) for name in ("a1", "a2", "a3", "b1")]
    pods = [pod(f"p{number}", cpu="100m", meta={"labels": {"app": "web"}}) for number in range(4)]
    zones = [name[0] for name in placed(snapshot(nodes, pods, services=(service,))).values()]
    assert zones.count("b") >= 1


def test_a_hard_spread_constraint_is_kept() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    pods = [
        pod(f"p{number}", cpu="2", meta={"labels": {"app": "web"}}, topologySpreadConstraints=[constraint])
        for number in range(4)
    ]
    small = node("b", {"cpu": "2", "memory": "8Gi", "pods": "10"})
    assert sorted(placed(snapshot([node("a"), small], pods)).values()) == ["", "a", "a", "b"]


def test_a_node_that_has_the_image_is_preferred() -> None:
    images = [{"names": ["web:1"], "sizeBytes": 900 * 1024 * 1024}]
    assert placed(snapshot([node("a"), node("b", images=images)], [pod("p")])) == {"p": "b"}


def test_the_same_snapshot_gives_the_same_decisions() -> None:
    seen = snapshot([node(name) for name in "abcde"], [pod(f"p{number}") for number in range(20)])
    assert placed(seen) == placed(seen)


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [{"resources": {"requests": {"cpu": "1"}}}] * 2}, 2000),
        ({"initContainers": [{"resources": {"requests": {"cpu": "3"}}}]}, 3000),
        ({"overhead": {"cpu": "250m"}}, 250),
        (
            {
                "containers": [{"resources": {"requests": {"cpu": "1"}}}],
                "initContainers": [
                    {"restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
                    {"resources": {"requests": {"cpu": "2"}}},
                ],
            },
            2500,
        ),
        ({"containers": [{"resources": {"requests": {"cpu": "1"}}}], "resources": {"requests": {"cpu": "4"}}}, 4000),
    ],
)
def test_what_a_pod_needs(spec: dict[str, Any], cpu: int) -> None:
    assert requests_of(pod("p", **spec).spec)["cpu"] == cpu


def test_upstream_s_weights_and_order_of_filters() -> None:
    weights = {plugin.name: plugin.weight for plugin in ALL if plugin.score or plugin.rate}
    assert weights == {
        "TaintToleration": 3,
        "NodeAffinity": 2,
        "PodTopologySpread": 2,
        "InterPodAffinity": 2,
        "NodeResourcesFit": 1,
        "NodeResourcesBalancedAllocation": 1,
        "ImageLocality": 1,
    }
    filters = [plugin.name for plugin in ALL if plugin.filter]
    assert filters[:3] == ["NodeUnschedulable", "NodeName", "TaintToleration"]


@pytest.mark.parametrize("plugin", ALL, ids=lambda plugin: plugin.name)
def test_every_score_lies_between_0_and_100(plugin: Plugin) -> None:
    seen = snapshot(
        [node("a", taints=("k:PreferNoSchedule",)), node("b"), node("c", {"cpu": "0", "memory": "0", "pods": "9"})],
        [replica("p")],
        {"a": [replica("q")], "b": [pod("r", cpu="9")]},
    )
    cluster = Cluster(seen)
    (wanted,) = seen.pending
    nodes = list(cluster.nodes.values())
    scores: Ratings = []
    if plugin.rate is not None:
        ratings = [plugin.rate(wanted, item) for item in nodes]
        scores = ratings if plugin.normalize is None else plugin.normalize(ratings)
    elif plugin.score is not None and plugin.prepare is not None:
        scores = plugin.score(wanted, nodes, plugin.prepare(wanted, cluster)) or []
    assert all(0 <= score <= 100 for score in scores)


def test_scaling_to_a_hundred() -> None:
    assert scaled([1, 4]) == [25, 100]
    assert scaled([1, 4], reverse=True) == [75, 0]
    assert scaled([0], reverse=True) == [100]
