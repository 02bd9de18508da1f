from __future__ import annotations

from typing import Any

from labctl.kube.resources import LEASES, NODES, PODS
from labctl.kube.timing import FAST, KUBERNETES
from master.controllers.catalog.node_lifecycle import Memory, plan
from master.controllers.protocol import Patch, Plan, Settings, Tell
from tests.unit.master.controllers.world import actions, lease, node, pod, statuses, world


class Watcher:
    """Runs passes over a changing world, keeping the memory between them."""

    def __init__(self, *nodes: dict[str, Any], profile: Any = FAST) -> None:
        self.nodes = {item["metadata"]["name"]: item for item in nodes}
        self.beats = dict.fromkeys(self.nodes, "2026-01-01T00:00:00.000000Z")
        self.pods: list[dict[str, Any]] = []
        self.now_s, self.steady_since_s, self.settings = 1000.0, 0.0, Settings(profile=profile)
        self.memory = Memory()

    def look(self, after_s: float = 0.0, *, beating: tuple[str, ...] = ()) -> Plan:
        """One pass, `after_s` later, with a heartbeat of each of `beating` just before."""
        self.now_s += after_s
        for name in beating:
            self.beats[name] = f"2026-01-01T00:00:00.{int(self.now_s * 1000) % 1_000_000:06d}Z"
        objects = {
            NODES: list(self.nodes.values()),
            LEASES: [lease(name, beat) for name, beat in self.beats.items() if beat],
            PODS: self.pods,
        }
        seen = world(objects, now_s=self.now_s, steady_since_s=self.steady_since_s, settings=self.settings)
        decided = plan(seen, self.memory)
        self.memory = decided.memory
        return decided

    def pass_time(self, seconds: float, *, beating: tuple[str, ...] = ()) -> Plan:
        """Look four times a second."""
        decided = self.look()
        for _ in range(int(seconds * 4)):
            decided = self.look(0.25, beating=beating)
        return decided


def marked(decided: Plan) -> set[str]:
    return set(statuses(decided, NODES))


def taints(decided: Plan) -> dict[str, set[str]]:
    return {
        action.name: {f"{taint.key.rpartition('/')[2]}:{taint.effect}" for taint in action.body["spec"]["taints"] or ()}
        for action in actions(decided, Patch)
        if action.resource == NODES and "spec" in action.body
    }


def test_a_node_is_left_alone_until_the_grace_ends_and_marked_the_moment_it_does() -> None:
    watcher = Watcher(node("w1"), node("w2"))
    assert marked(watcher.look()) == set()
    assert marked(watcher.pass_time(3.75, beating=("w2",))) == set()
    decided = watcher.look(0.25, beating=("w2",))
    assert marked(decided) == {"w1"}
    conditions = {entry["type"]: entry for entry in statuses(decided, NODES)["w1"]["conditions"]}
    assert {entry["status"] for entry in conditions.values()} == {"Unknown"}
    assert conditions.keys() == {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"}
    assert conditions["Ready"]["reason"] == "NodeStatusUnknown"


def test_the_next_look_is_planned_for_the_very_end_of_the_grace() -> None:
    watcher = Watcher(node("w1"))
    watcher.pass_time(3.0)
    assert watcher.look(0.5).wake_after_s == 0.5


def test_a_heartbeat_starts_the_grace_anew_whatever_its_stamp_says() -> None:
    watcher = Watcher(node("w1"))
    watcher.pass_time(3.0)
    watcher.beats["w1"] = "1999-01-01T00:00:00.000000Z"  # its clock jumped back
    assert marked(watcher.pass_time(3.75)) == set()
    assert marked(watcher.look(0.5)) == {"w1"}


def test_a_node_that_never_reported_has_the_longer_startup_grace() -> None:
    watcher = Watcher(node("w1", ready=""))
    watcher.beats = {}
    assert marked(watcher.pass_time(19.5)) == set()
    decided = watcher.look(0.5)
    assert statuses(decided, NODES)["w1"]["conditions"][0]["reason"] == "NodeStatusNeverUpdated"


def test_time_in_which_our_own_writes_did_not_come_through_does_not_count() -> None:
    watcher = Watcher(node("w1"))
    watcher.pass_time(3.5)
    watcher.steady_since_s = watcher.now_s
    assert marked(watcher.pass_time(3.75)) == set()
    assert marked(watcher.look(0.25)) == {"w1"}


def test_a_controller_that_was_frozen_itself_holds_nothing_against_the_nodes() -> None:
    watcher = Watcher(node("w1"))
    watcher.look()
    assert marked(watcher.look(60.0)) == set()
    assert marked(watcher.pass_time(4.0)) == {"w1"}


def test_a_restarted_controller_grants_a_whole_grace() -> None:
    watcher = Watcher(node("w1"))
    watcher.pass_time(3.75)
    watcher.memory = Memory()
    assert marked(watcher.pass_time(3.75)) == set()


def test_pods_of_a_silent_node_are_unready_in_the_same_pass() -> None:
    watcher = Watcher(node("w1"), node("w2"))
    watcher.pods = [pod("a", node="w1", ready=True), pod("b", node="w2", ready=True), pod("c", node="w1")]
    decided = watcher.pass_time(4.0, beating=("w2",))
    flipped = statuses(decided, PODS)
    assert flipped.keys() == {"a"}
    assert flipped["a"]["conditions"][0]["status"] == "False"
    reasons = [action.reason for action in actions(decided, Tell)]
    assert reasons.count("NodeNotReady") == 2  # the node's and the pod's


def test_pods_of_a_node_that_says_itself_it_is_not_ready_are_flipped_once() -> None:
    watcher = Watcher(node("w1"), node("w2"))
    watcher.pods = [pod("a", node="w1", ready=True)]
    watcher.look(beating=("w1", "w2"))
    watcher.nodes["w1"] = node("w1", ready="False")
    assert statuses(watcher.look(0.1, beating=("w1", "w2")), PODS).keys() == {"a"}
    assert statuses(watcher.look(0.1, beating=("w1", "w2")), PODS) == {}


def test_an_unreachable_node_gets_both_taints_and_a_recovered_one_loses_them() -> None:
    watcher = Watcher(node("w1", ready="Unknown"), node("w2"))
    decided = watcher.look()
    assert taints(decided) == {"w1": {"unreachable:NoSchedule", "unreachable:NoExecute"}}
    both = ("node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute", "mine:NoSchedule")
    watcher.nodes["w1"] = node("w1", taints=both)
    assert taints(watcher.look(0.1)) == {"w1": {"mine:NoSchedule"}}


def test_not_ready_and_unreachable_swap_without_waiting_for_the_rate() -> None:
    held = ("node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute")
    watcher = Watcher(node("w1", ready="False", taints=held), node("w2"), node("w3", ready="Unknown"))
    assert taints(watcher.look())["w1"] == {"not-ready:NoSchedule", "not-ready:NoExecute"}


def test_a_new_node_keeps_the_taint_that_admission_set_until_it_reports() -> None:
    watcher = Watcher(node("w1", ready="", taints=("node.kubernetes.io/not-ready:NoSchedule",)), node("w2"))
    assert taints(watcher.look()) == {}


def test_a_cordon_becomes_a_taint() -> None:
    assert taints(Watcher(node("w1", unschedulable=True)).look()) == {"w1": {"unschedulable:NoSchedule"}}


def evicted(decided: Plan) -> set[str]:
    return {name for name, found in taints(decided).items() if any(taint.endswith("NoExecute") for taint in found)}


def test_nodes_are_tainted_for_eviction_one_after_the_other_at_the_zone_s_rate() -> None:
    down = [node(f"w{number}", ready="Unknown") for number in (1, 2)]
    up = [node(f"u{number}") for number in (1, 2, 3)]
    watcher = Watcher(*down, *up, profile=KUBERNETES)
    watcher.settings = Settings(profile=KUBERNETES)
    decided = watcher.look()
    assert evicted(decided) == {"w1"}
    assert decided.wake_after_s == 10.0
    assert evicted(watcher.look(9.9)) == {"w1"}  # w1's write has not landed in this world
    assert evicted(watcher.look(0.1)) == {"w1", "w2"}


def test_evictions_stop_in_a_small_zone_that_is_mostly_down() -> None:
    down = [node(f"w{number}", ready="Unknown") for number in (1, 2, 3)]
    watcher = Watcher(*down, node("u1"))
    assert evicted(watcher.look()) == set()
    assert evicted(watcher.pass_time(10)) == set()


def test_a_node_excluded_from_disruption_says_nothing_about_its_zone() -> None:
    spare: dict[str, Any] = {"labels": {"node.kubernetes.io/exclude-disruption": "true"}}
    watcher = Watcher(node("w1", ready="Unknown"), node("up", **spare))
    assert evicted(watcher.look(beating=("up",))) == set()  # all that counts is down
    watcher = Watcher(node("w1", ready="Unknown"), node("down", ready="Unknown", **spare), node("w2"))
    watcher.look(beating=("w2",))
    assert evicted(watcher.pass_time(2.0, beating=("w2",))) == {"w1", "down"}  # it is still evicted


def test_two_dead_workers_of_two_and_a_third_alive_are_still_normal() -> None:
    watcher = Watcher(node("w1", ready="Unknown"), node("w2", ready="Unknown"), node("w3"))
    watcher.look(beating=("w3",))
    assert evicted(watcher.pass_time(2.0, beating=("w3",))) == {"w1", "w2"}


def test_when_every_zone_is_down_evictions_stop_and_their_taints_are_taken_back() -> None:
    held = ("node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute")
    watcher = Watcher(node("w1", ready="Unknown", taints=held), node("w2", ready="Unknown"))
    decided = watcher.look()
    assert taints(decided) == {"w1": {"unreachable:NoSchedule"}, "w2": {"unreachable:NoSchedule"}}


def test_after_total_disruption_every_node_gets_a_whole_grace() -> None:
    watcher = Watcher(node("w1", ready="Unknown"), node("w2", ready="Unknown"), node("w3", ready="Unknown"))
    watcher.pass_time(10.0)
    watcher.nodes["w1"] = node("w1")
    watcher.look(0.25, beating=("w1",))
    watcher.nodes["w2"] = node("w2")  # its status came back, its heartbeat is a little late
    assert marked(watcher.pass_time(3.5, beating=("w1",))) == set()
