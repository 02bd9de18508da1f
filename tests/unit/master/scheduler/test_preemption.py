"""Who has to go so that a more important pod can run, and what the pod is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.scheduler.cycle import Placed, Unschedulable, decide
from master.scheduler.snapshot import Snapshot
from master.scheduler.views import Budget, Node, Pod
from tests.unit.master.scheduler.cluster import ALL, info, node, pod, snapshot

ROOM = {"cpu": "2", "memory": "8Gi", "pods": "110"}


def small(name: str, **more: Any) -> Node:
    return node(name, ROOM, **more)


def runs(name: str, priority: int = 0, cpu: str = "1", start: int = 0, **spec: Any) -> Pod:
    labels = {"app": spec.pop("app", name)}
    status = {"startTime": f"2026-01-01T00:00:{start:02}Z"}
    return pod(name, cpu=cpu, priority=priority, status=status, meta={"labels": labels, **spec.pop("meta", {})}, **spec)


def outcome(seen: Snapshot) -> tuple[str, list[str]]:
    """The nominated node and the victims of the one pending pod."""
    (decision,) = decide(seen, ALL)
    assert isinstance(decision, Unschedulable)
    return decision.nominated, [victim.meta.name for victim in decision.victims]


def important(cpu: str = "1", **spec: Any) -> Pod:
    return pod("p", cpu=cpu, priority=100, **spec)


def budget(app: str, allowed: int) -> Budget:
    document = {
        "metadata": {"name": app, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed},
    }
    return msgspec.convert(document, Budget)


def test_only_pods_of_a_lower_priority_go_and_no_more_than_needed() -> None:
    there = [runs("a", 5), runs("b", 7)]
    assert outcome(snapshot([small("n")], [important()], {"n": there})) == ("n", ["a"])
    assert outcome(snapshot([small("n")], [important("2")], {"n": there})) == ("n", ["b", "a"])
    assert outcome(snapshot([small("n")], [important()], {"n": [runs("a", 100), runs("b", 200)]})) == ("", [])


@pytest.mark.parametrize(
    ("left", "right", "chosen"),
    [
        ([runs("a", 5, "2")], [runs("b", 6, "2")], "l"),  # the lower of the highest priorities
        ([runs("a", 5), runs("b", 1)], [runs("c", 5), runs("d", 2)], "l"),  # the lower sum
        ([runs("a", 5), runs("b", -(2**31) + 5)], [runs("c", 5, "2")], "r"),  # a longer list is not cheaper
        ([runs("a", 5, "2", start=10)], [runs("b", 5, "2", start=20)], "r"),  # what started later
    ],
)
def test_the_node_where_it_hurts_least_is_chosen(left: list[Pod], right: list[Pod], chosen: str) -> None:
    seen = snapshot([small("l"), small("r")], [important("2")], {"l": left, "r": right})
    assert outcome(seen)[0] == chosen


def test_budgets_are_kept_where_that_is_possible() -> None:
    nodes, there = [small("l"), small("r")], {"l": [runs("a", 1, "2")], "r": [runs("b", 50, "2")]}
    assert outcome(snapshot(nodes, [important("2")], there)) == ("l", ["a"])
    assert outcome(snapshot(nodes, [important("2")], there, budgets=(budget("a", 0),))) == ("r", ["b"])
    broken = (budget("a", 0), budget("b", 0))
    assert outcome(snapshot(nodes, [important("2")], there, budgets=broken)) == ("l", ["a"])
    same = {"n": [runs("a", 1, app="x"), runs("b", 9, app="y")]}
    assert outcome(snapshot([small("n")], [important()], same, budgets=(budget("x", 0),))) == ("n", ["b"])


def test_room_is_made_for_host_ports_and_against_anti_affinity_too() -> None:
    port = {"ports": [{"containerPort": 80, "hostPort": 80}]}
    seen = snapshot([small("n")], [important(container=port)], {"n": [runs("a", 1, container=port), runs("b", 1, "0")]})
    assert outcome(seen) == ("n", ["a"])
    rule = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}}
    away = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [rule]}}
    assert outcome(snapshot([small("n")], [important(affinity=away)], {"n": [runs("a", 1)]})) == ("n", ["a"])


def message(seen: Snapshot) -> str:
    (decision,) = decide(seen, ALL)
    assert isinstance(decision, Unschedulable)
    return decision.message


def test_what_the_pod_is_told() -> None:
    nodes = [small("n"), small("m", taints=("k:NoSchedule",))]
    before = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). preemption: "
    full = {"n": [runs("a", 1, "2")]}
    assert message(snapshot(nodes, [important()], full)) == (
        f"{before}found a potential placement for pod on node n, preempting 1 victims"
    )
    reasons = "1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    assert message(snapshot(nodes, [pod("p", cpu="1")], full)) == f"{before}0/2 nodes are available: {reasons}"
    never = important(preemptionPolicy="Never")
    assert message(snapshot(nodes, [never], full)) == f"{before}not eligible due to preemptionPolicy=Never."


def test_while_victims_are_leaving_nobody_else_is_asked_to() -> None:
    entry = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    leaving = pod(
        "a",
        cpu="2",
        priority=1,
        meta={"deletionTimestamp": "2026-01-01T00:00:00Z"},
        status={"conditions": [entry]},
    )
    waiting = important("2", status={"nominatedNodeName": "n"})
    seen = snapshot([small("n"), small("m")], [waiting], {"n": [leaving], "m": [runs("b", 1, "2")]})
    assert outcome(seen) == ("n", [])
    assert "not eligible due to a terminating pod on the nominated node." in message(seen)


def test_room_that_was_made_is_kept_for_the_pod_and_others_go_elsewhere() -> None:
    waiting = info(important("2", status={"nominatedNodeName": "n"}))
    seen = snapshot([small("n")], [pod("q", cpu="1", priority=99)], nominated={"n": (waiting,)})
    assert outcome(seen) == ("", [])
    higher = snapshot([small("n")], [pod("q", cpu="1", priority=101)], nominated={"n": (waiting,)})
    (decision,) = decide(higher, ALL)
    assert isinstance(decision, Placed)


def test_two_pods_of_one_cycle_do_not_count_on_the_same_room() -> None:
    pods = [pod(name, cpu="2", priority=100) for name in ("p", "q")]
    seen = snapshot([small("l"), small("r")], pods, {"l": [runs("a", 1, "2")], "r": [runs("b", 2, "2")]})
    found = [(decision.nominated if isinstance(decision, Unschedulable) else "") for decision in decide(seen, ALL)]
    assert found == ["l", "r"]


def test_a_pod_takes_the_node_whose_room_was_made_for_it() -> None:
    waiting = important("2", status={"nominatedNodeName": "n"})
    (decision,) = decide(snapshot([small("m"), small("n")], [waiting], nominated={"n": (info(waiting),)}), ALL)
    assert isinstance(decision, Placed)
    assert decision.node == "n"


def test_pods_of_a_lower_priority_lose_the_node_they_were_promised() -> None:
    lower = info(pod("q", cpu="1", priority=50, status={"nominatedNodeName": "n"}))
    (decision,) = decide(
        snapshot([small("n")], [important("2")], {"n": [runs("a", 1, "2")]}, nominated={"n": (lower,)}), ALL
    )
    assert isinstance(decision, Unschedulable)
    assert (decision.nominated, decision.displaced) == ("n", (lower,))


SIZES = st.integers(1, 4).map(lambda size: f"{size * 500}m")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), SIZES), max_size=6), SIZES, st.integers(0, 4))
def test_victims_make_just_enough_room(there: list[tuple[int, str]], cpu: str, priority: int) -> None:
    running = [runs(f"r{at}", level, size, start=at) for at, (level, size) in enumerate(there)]
    total = sum(info(item).requests["cpu"] for item in running)
    seen = snapshot(
        [node("n", ROOM | {"cpu": f"{max(2000, total)}m"})], [pod("p", cpu=cpu, priority=priority)], {"n": running}
    )
    (decision,) = decide(seen, ALL)
    free = max(2000, total) - total
    wanted = info(seen.pending[0].pod).requests["cpu"]
    if isinstance(decision, Placed):
        assert wanted <= free
        return
    given_up = [victim.requests["cpu"] for victim in decision.victims]
    lower = [item for item in running if item.spec.priority < priority]
    if not decision.victims:
        assert wanted > free + sum(info(item).requests["cpu"] for item in lower)
        return
    assert all(victim.priority < priority for victim in decision.victims)
    assert wanted <= free + sum(given_up)
    assert all(wanted > free + sum(given_up) - size for size in given_up)  # each of them is needed
