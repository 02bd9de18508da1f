"""Whatever nodes do, and whichever writes are lost, they are tainted no faster than the rate, and never with both."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.kube.resources import LEASES, NODES
from labctl.kube.timing import KUBERNETES
from master.controllers.catalog.node_lifecycle import NOT_READY, UNREACHABLE, Memory, plan
from master.controllers.protocol import Patch, Settings
from tests.unit.master.controllers.world import actions, lease, node, world

Document = dict[str, Any]
_ZONE = "topology.kubernetes.io/zone"
_KEYS = {NOT_READY, UNREACHABLE}


class Zones:
    """Nodes in two zones; what the controller writes of them may be lost."""

    def __init__(self, sizes: tuple[int, int]) -> None:
        names = [(f"{zone}{number}", zone) for zone, size in zip("ab", sizes, strict=True) for number in range(size)]
        self.nodes = {name: node(name, labels={_ZONE: zone}) for name, zone in names}
        self.beats = dict.fromkeys(self.nodes, 0)
        self.now_s, self.memory = 1_000.0, Memory()
        self.tainted: dict[str, list[float]] = {"a": [], "b": []}  # when a node of the zone was first to be tainted
        self.planned: set[str] = set()  # nodes whose taint was planned, and not taken away since

    def beat(self, which: int) -> None:
        """A node is well, and says so."""
        name = list(self.nodes)[which % len(self.nodes)]
        self.beats[name] += 1
        self._condition(name, "True")

    def fail(self, which: int) -> None:
        """A node says that it is not ready."""
        name = list(self.nodes)[which % len(self.nodes)]
        self.beats[name] += 1
        self._condition(name, "False")

    def _condition(self, name: str, status: str) -> None:
        taints = self.nodes[name]["spec"]["taints"]
        labels = self.nodes[name]["metadata"]["labels"]
        self.nodes[name] = node(name, ready=status, labels=labels)
        self.nodes[name]["spec"]["taints"] = taints

    def look(self, after_s: float, *, lost: bool) -> None:
        """One pass, that much later; its writes come through unless `lost`."""
        self.now_s += after_s
        seen = world(
            {NODES: list(self.nodes.values()), LEASES: [lease(name, str(beat)) for name, beat in self.beats.items()]},
            now_s=self.now_s,
            settings=Settings(profile=KUBERNETES),
        )
        decided = plan(seen, self.memory)
        self.memory = decided.memory
        for action in actions(decided, Patch):
            if action.resource == NODES and action.subresource == "status" and not lost:
                self._condition(action.name, "Unknown")
            elif action.resource == NODES and "spec" in action.body:
                self._take(action, lost=lost)

    def _take(self, action: Patch, *, lost: bool) -> None:
        taints = action.body["spec"]["taints"] or []
        evicting = [taint.key for taint in taints if taint.effect == "NoExecute" and taint.key in _KEYS]
        assert len(evicting) <= 1
        before = self.nodes[action.name]["spec"]["taints"]
        held = any(taint["effect"] == "NoExecute" and taint["key"] in _KEYS for taint in before)
        if evicting and not held and action.name not in self.planned:
            self.tainted[action.name[0]].append(self.now_s)
            self.planned.add(action.name)
        if not lost:
            if not evicting:
                self.planned.discard(action.name)
            after = [{"key": taint.key, "effect": taint.effect} for taint in taints]
            self.nodes[action.name]["spec"]["taints"] = after

    def check(self) -> None:
        """Between any two moments a zone lost no more nodes than the rate allows, and one at once."""
        for moments in self.tainted.values():
            for first in range(len(moments)):
                for last in range(first, len(moments)):
                    allowed = 1 + (moments[last] - moments[first]) * KUBERNETES.eviction_rate_per_s
                    assert last - first + 1 <= allowed + 1e-6


HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["beat", "beat", "fail"]), st.integers(0, 9)),
        st.tuples(st.just("look"), st.sampled_from([0.1, 1.0, 4.0, 5.0, 9.9, 20.0]), st.booleans()),
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=100, deadline=None)
@given(st.tuples(st.integers(1, 6), st.integers(0, 4)), HAPPENINGS)
def test_nodes_are_tainted_no_faster_than_the_rate_and_never_twice(
    sizes: tuple[int, int], happenings: list[Any]
) -> None:
    zones = Zones(sizes)
    for what, *more in happenings:
        if what == "look":
            zones.look(more[0], lost=more[1])
        else:
            getattr(zones, what)(*more)
    zones.check()


def test_the_model_sees_nodes_tainted_at_the_rate() -> None:
    """What the property holds against the plan does happen in the model: nodes go silent and are tainted in turn."""
    zones = Zones((2, 3))
    for _ in range(40):
        for which in range(2, 5):
            zones.beat(which)
        zones.look(5.0, lost=False)
    assert len(zones.tainted["a"]) == 2
    assert zones.tainted["a"][1] - zones.tainted["a"][0] >= 10.0
    assert zones.tainted["b"] == []
    zones.check()
