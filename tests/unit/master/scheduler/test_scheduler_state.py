from __future__ import annotations

from typing import Any

from master.scheduler.state import State
from master.scheduler.views import Node, Pod
from tests.unit.master.scheduler.cluster import ALL, node, pod


class Feed:
    """A state with its objects; says what is to be tried."""

    def __init__(self, *nodes: Node) -> None:
        self.state, self.nodes, self.pods = State(plugins=ALL), dict[str, Node](), dict[str, Pod]()
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

    def hold(self, name: str, *refused_by: str, now_s: float = 0.0, nominated: str = "") -> None:
        (info,) = [info for info in self.state.snapshot(now_s).pending if info.meta.name == name]
        self.state.hold(info, now_s, frozenset(refused_by or ["NodeResourcesFit"]), nominated)


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


BIG = {"cpu": "16", "memory": "8Gi", "pods": "110"}


def test_an_unschedulable_pod_waits_for_something_that_could_help() -> None:
    feed = Feed(node("n"))
    feed.put(pod("p", cpu="9"), pod("r", cpu="1", nodeName="n"))
    feed.hold("p")
    assert feed.pending() == []
    feed.put_node(node("n"))  # a heartbeat changes nothing that matters
    feed.put_node(node("n", labels={"a": "b"}))  # nor does a label, where there is no room
    feed.put_node(node("small"))
    feed.put(pod("new", cpu="1", nodeName="n"))
    assert feed.pending() == []
    feed.remove("r")
    assert feed.pending() == ["p"]
    feed.hold("p")
    feed.put_node(node("n", BIG))
    assert feed.pending() == ["p"]
    feed.hold("p")
    feed.put_node(node("new", BIG))
    assert feed.pending() == ["p"]


def held(refused_by: str, **spec: Any) -> Feed:
    """A pod that one plugin refused, in a cluster of one cordoned, tainted node."""
    feed = Feed(node("n", taints=("k:NoSchedule",), unschedulable=True))
    feed.put(pod("p", meta={"labels": {"app": "web"}}, **spec))
    feed.hold("p", refused_by)
    assert feed.pending() == []
    return feed


def test_each_plugin_waits_for_its_own_kind_of_change() -> None:
    feed = held("NodeUnschedulable")
    feed.put_node(node("n", unschedulable=True))
    assert feed.pending() == []
    feed.put_node(node("n"))
    assert feed.pending() == ["p"]
    feed = held("TaintToleration")
    feed.put_node(node("n", taints=("k:NoSchedule",)))
    assert feed.pending() == []
    feed.put_node(node("n"))
    assert feed.pending() == ["p"]
    feed = held("NodeAffinity", nodeSelector={"disk": "ssd"})
    feed.put_node(node("other"))
    assert feed.pending() == []
    feed.put_node(node("other", labels={"disk": "ssd"}))
    assert feed.pending() == ["p"]


def test_a_pod_refused_for_others_waits_for_others() -> None:
    def term(label: str) -> dict[str, Any]:
        rule = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": label}}}
        return {"requiredDuringSchedulingIgnoredDuringExecution": [rule]}

    def runs(name: str, label: str) -> Pod:
        return pod(name, nodeName="n", meta={"labels": {"app": label}})

    feed = held("InterPodAffinity", affinity={"podAffinity": term("db")})
    feed.put(runs("a", "cache"))
    assert feed.pending() == []
    feed.put(runs("b", "db"))
    assert feed.pending() == ["p"]
    feed = held("InterPodAffinity", affinity={"podAntiAffinity": term("db")})
    feed.put(runs("a", "cache"), runs("b", "db"))
    feed.remove("a")
    assert feed.pending() == []
    feed.remove("b")
    assert feed.pending() == ["p"]
    rule = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}
    feed = held("PodTopologySpread", topologySpreadConstraints=[rule])
    feed.put(runs("a", "db"))
    assert feed.pending() == []
    feed.put(runs("b", "web"))
    assert feed.pending() == ["p"]


def test_each_try_in_vain_doubles_the_pause_but_nobody_sits_it_out_while_nothing_else_waits() -> None:
    feed = Feed(node("n"))
    feed.put(pod("p", cpu="9"))
    now_s, pauses = 0.0, []
    for _ in range(6):
        feed.hold("p", now_s=now_s)
        feed.put_node(node("n", BIG))
        feed.put(pod("other"))  # something else waits
        assert feed.pending(now_s) == ["other"]
        pauses.append(feed.state.wake_after_s(now_s))
        feed.put(pod("other", nodeName="n"))
        feed.put_node(node("n"))
        now_s += 1_000.0
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    feed.hold("p", now_s=now_s)
    feed.put_node(node("n", BIG))
    assert feed.pending(now_s) == ["p"]


def test_after_five_minutes_a_pod_is_tried_whatever_happened() -> None:
    feed = Feed(node("n"))
    feed.put(pod("p", cpu="9"))
    feed.hold("p", now_s=10.0)
    assert (feed.pending(309.0), feed.pending(310.0)) == ([], ["p"])


def test_the_room_made_for_a_pod_is_kept_until_the_api_knows_and_beyond() -> None:
    def nominated() -> dict[str, list[str]]:
        return {name: [info.meta.name for info in infos] for name, infos in feed.state.snapshot(0.0).nominated.items()}

    feed = Feed(node("n"))
    feed.put(pod("p", cpu="9"))
    feed.hold("p", nominated="n")
    assert nominated() == {"n": ["p"]}
    feed.put(pod("p", cpu="9", status={"conditions": []}))  # an older event of the same pod
    assert nominated() == {"n": ["p"]}
    feed.put(pod("p", cpu="9", status={"nominatedNodeName": "n"}))
    assert nominated() == {"n": ["p"]}
    feed.put(pod("p", cpu="9"))  # somebody took it back
    assert nominated() == {}
    feed.put(pod("p", cpu="9", status={"nominatedNodeName": "n"}))
    feed.put(pod("p", cpu="9", nodeName="n", status={"nominatedNodeName": "n"}))
    assert nominated() == {}


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
