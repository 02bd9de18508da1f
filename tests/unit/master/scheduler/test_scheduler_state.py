from __future__ import annotations

from typing import Any

from master.scheduler.state import State
from master.scheduler.views import Node, Pod
from tests.unit.master.scheduler.cluster import node, pod


class Feed:
    """A state with its objects; says what is to be tried."""

    def __init__(self, *nodes: Node) -> None:
        self.state, self.nodes, self.pods = State(), dict[str, Node](), dict[str, Pod]()
        for item in nodes:
            self.put_node(item)

    def put_node(self, item: Node) -> None:
        self.nodes[item.metadata.name] = item
        self.state.take_nodes([item.metadata.name], self.nodes)

    def put(self, *items: Pod) -> None:
        for item in items:
            self.pods[item.metadata.key] = item
            self.state.take_pods([item.metadata.key], self.pods)

    def remove(self, name: str) -> None:
        del self.pods[f"default/{name}"]
        self.state.take_pods([f"default/{name}"], self.pods)

    def pending(self, now_s: float = 0.0) -> list[str]:
        return [info.meta.name for info in self.state.snapshot(now_s).pending]

    def cpu(self, name: str) -> int:
        return self.state.snapshot(0.0).nodes[name].requested.get("cpu", 0)

    def assume(self, name: str, where: str) -> Any:
        (info,) = [info for info in self.state.snapshot(0.0).pending if info.meta.name == name]
        self.state.assume(info, where)
        return info

    def hold(self, name: str) -> None:
        (info,) = [info for info in self.state.snapshot(0.0).pending if info.meta.name == name]
        self.state.hold(info, 300.0)


def test_only_pods_that_are_ours_to_schedule_are_pending() -> None:
    feed = Feed()
    feed.put(
        pod("mine"),
        pod("bound", nodeName="n"),
        pod("gated", schedulingGates=[{"name": "wait"}]),
        pod("theirs", schedulerName="other"),
        pod("leaving", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        pod("failed", status={"phase": "Failed"}),
    )
    assert feed.pending() == ["mine"]
    feed.put(pod("gated"))
    assert sorted(feed.pending()) == ["gated", "mine"]


def test_an_assumed_pod_counts_on_its_node_and_is_not_tried_again() -> None:
    feed = Feed(node("n"))
    feed.put(pod("p", cpu="1"))
    feed.assume("p", "n")
    assert (feed.pending(), feed.cpu("n")) == ([], 1000)
    feed.put(pod("p", cpu="1", status={"conditions": []}))  # an older event of the same pod
    assert (feed.pending(), feed.cpu("n")) == ([], 1000)
    feed.put(pod("p", cpu="1", nodeName="n"))
    assert (feed.pending(), feed.cpu("n")) == ([], 1000)


def test_a_failed_binding_gives_the_room_back_and_is_tried_after_its_backoff() -> None:
    feed = Feed(node("n"))
    feed.put(pod("p", cpu="1"))
    info = feed.assume("p", "n")
    feed.state.forget(info, 10.0, 2.0)
    assert feed.cpu("n") == 0
    assert feed.pending(11.9) == []
    assert feed.state.wake_after_s(11.0) == 1.0
    assert feed.pending(12.0) == ["p"]


def test_a_binding_that_came_about_after_all_is_not_forgotten() -> None:
    feed = Feed(node("n"))
    feed.put(pod("p", cpu="1"))
    info = feed.assume("p", "n")
    feed.put(pod("p", cpu="1", nodeName="n"))
    feed.state.forget(info, 10.0, 0.0)
    assert (feed.pending(20.0), feed.cpu("n")) == ([], 1000)


def test_an_unschedulable_pod_waits_for_something_that_could_help() -> None:
    feed = Feed(node("n"))
    feed.put(pod("p", cpu="9"), pod("r", cpu="1", nodeName="n"))
    feed.hold("p")
    assert feed.pending() == []
    feed.put_node(node("n"))  # a heartbeat changes nothing that matters
    assert feed.pending() == []
    feed.remove("r")
    assert feed.pending() == ["p"]
    feed.hold("p")
    feed.put_node(node("n", labels={"a": "b"}))
    assert feed.pending() == ["p"]
    feed.hold("p")
    feed.put_node(node("new"))
    assert feed.pending() == ["p"]


def test_an_unschedulable_pod_is_tried_again_when_it_changes_itself_but_not_for_our_own_note_on_it() -> None:
    feed = Feed(node("n"))
    feed.put(pod("p", cpu="9"))
    feed.hold("p")
    note = {"conditions": [{"type": "PodScheduled", "status": "False"}]}
    feed.put(pod("p", cpu="9", status=note))
    assert feed.pending() == []
    feed.put(pod("p", cpu="9", status=note, tolerations=[{"operator": "Exists"}]))
    assert feed.pending() == ["p"]


def test_a_finished_or_removed_pod_gives_its_room_back() -> None:
    feed = Feed(node("n"))
    feed.put(pod("a", cpu="1", nodeName="n"), pod("b", cpu="2", nodeName="n"))
    assert feed.cpu("n") == 3000
    feed.put(pod("a", cpu="1", nodeName="n", status={"phase": "Succeeded"}))
    assert feed.cpu("n") == 2000
    feed.remove("b")
    assert feed.cpu("n") == 0


def test_pods_seen_before_their_node_count_once_it_comes() -> None:
    feed = Feed()
    feed.put(pod("a", cpu="1", nodeName="n"))
    feed.put_node(node("n"))
    assert feed.cpu("n") == 1000


def test_a_successor_of_the_same_name_is_another_pod() -> None:
    feed = Feed(node("n"))
    feed.put(pod("p", cpu="1"))
    feed.assume("p", "n")
    feed.put(pod("p", cpu="2", meta={"uid": "another"}))
    assert (feed.pending(), feed.cpu("n")) == (["p"], 0)
