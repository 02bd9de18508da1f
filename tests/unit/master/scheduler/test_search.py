"""How many nodes are looked at, and where the next search begins."""

from __future__ import annotations

import pytest

from master.scheduler.cycle import Placed, decide
from master.scheduler.search import enough
from tests.unit.master.scheduler.cluster import ALL, node, pod, snapshot

ZONE = "topology.kubernetes.io/zone"


@pytest.mark.parametrize(
    ("nodes", "percentage", "wanted"),
    [(50, 0, 50), (100, 0, 100), (125, 0, 100), (1_000, 0, 420), (5_000, 0, 500), (6_000, 0, 300), (5_000, 70, 3_500)],
)
def test_so_many_nodes_that_fit_are_enough(nodes: int, percentage: int, wanted: int) -> None:
    assert enough(nodes, percentage) == wanted


def test_the_next_search_begins_where_the_last_one_ended() -> None:
    nodes = [node(f"n{number:03}", {"cpu": "1", "memory": "8Gi", "pods": "9"}) for number in range(300)]
    pods = [pod(f"p{number}", cpu="1") for number in range(4)]
    decisions = decide(snapshot(nodes, pods, percentage=10, start=250), ALL)
    assert [decision.examined for decision in decisions] == [100, 100, 100, 101]  # once round: one node is taken
    chosen = [int(decision.node[1:]) for decision in decisions if isinstance(decision, Placed)]
    spans = [range(250, 350), range(50, 150), range(150, 250)]
    assert all(number % 300 in {at % 300 for at in span} for number, span in zip(chosen, spans, strict=False))


def test_a_search_that_ends_early_has_looked_into_every_zone() -> None:
    nodes = [node(f"n{number:03}", labels={ZONE: f"z{number // 100}"}) for number in range(300)]
    busy = {item.metadata.name: [pod(f"r-{item.metadata.name}", cpu="3")] for item in nodes[:200]}
    (decision,) = decide(snapshot(nodes, [pod("p", cpu="1")], busy, percentage=5), ALL)
    assert isinstance(decision, Placed)
    assert int(decision.node[1:]) >= 200  # the emptier nodes are in the last zone


def test_nodes_named_by_affinity_are_the_only_ones_looked_at() -> None:
    field = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1", "gone"]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [field]}}}
    nodes = [node(f"n{number}") for number in range(3)]
    (decision,) = decide(snapshot(nodes, [pod("p", affinity=affinity)]), ALL)
    assert isinstance(decision, Placed)
    assert (decision.node, decision.examined) == ("n1", 1)
    (refused,) = decide(snapshot(nodes, [pod("p", cpu="9", affinity=affinity)]), ALL)
    assert not isinstance(refused, Placed)
    assert refused.message.startswith(
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: "
    )
