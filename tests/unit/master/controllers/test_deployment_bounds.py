"""Whatever happens in whatever order, a rollout stays within its surge and its unavailability, and comes to an end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.kube.resources import DEPLOYMENTS, REPLICA_SETS
from master.controllers.catalog.deployment import plan
from master.controllers.protocol import Create, Delete, Patch, Plan
from master.controllers.rollout import DESIRED, MAXIMUM, Bounds, bounds
from tests.unit.master.controllers.world import actions, meta, owned_by, world


@dataclass(slots=True)
class Set:
    """A replica set: how big it is to be, how many of its pods are available, and what its status says of that."""

    turn: str
    number: int
    size: int
    available: int = 0
    reported: int = 0
    observed: int = 0  # the generation of the last report
    generation: int = 1
    notes: dict[str, str] = field(default_factory=dict)


class Rollout:
    """A Deployment and its sets; every method is something that may happen next."""

    def __init__(self, replicas: int, surge: int | str, unavailable: int | str) -> None:
        self.replicas, self.rolling = replicas, {"maxSurge": surge, "maxUnavailable": unavailable}
        self.turn, self.turns = "t0", 1
        first = Set("t0", 0, replicas, replicas, replicas, 1, notes={DESIRED: str(replicas)})
        self.sets = [first]
        self.limit: Bounds = bounds(next(iter(self._world().objects[DEPLOYMENTS].values())))
        first.notes[MAXIMUM] = str(self.limit.most)

    def _world(self) -> Any:
        template = {"metadata": {"labels": {"app": "web"}}, "spec": {"turn": self.turn}}
        spec = {"replicas": self.replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
        item = {"metadata": meta("web"), "spec": {**spec, "strategy": {"rollingUpdate": self.rolling}}}
        return world({DEPLOYMENTS: [item], REPLICA_SETS: [self._document(one) for one in self.sets]})

    def _document(self, one: Set) -> dict[str, Any]:
        labels = {"app": "web", "pod-template-hash": one.turn}
        head = meta(one.turn, labels=labels, annotations=one.notes, ownerReferences=owned_by("Deployment", "web"))
        head |= {"creationTimestamp": f"2026-01-01T00:00:{one.number:02d}Z", "generation": one.generation}
        counts = {"replicas": one.reported, "readyReplicas": one.reported, "availableReplicas": one.reported}
        return {
            "metadata": head,
            "spec": {"replicas": one.size, "template": {"metadata": {"labels": labels}, "spec": {"turn": one.turn}}},
            "status": {**counts, "observedGeneration": one.observed},
        }

    def plan(self, most: int) -> Plan:
        """The controller plans, and performs at most so many of its actions before it dies."""
        decided = plan(self._world(), None)
        for action in actions(decided)[:most]:
            if isinstance(action, Create):
                turn = action.body["spec"]["template"]["spec"]["turn"]
                notes = action.body["metadata"]["annotations"]
                self.sets.append(Set(turn, len(self.sets), action.body["spec"]["replicas"], notes=notes))
            elif isinstance(action, Delete):
                self.sets = [one for one in self.sets if one.turn != action.name]
            elif isinstance(action, Patch) and action.resource == REPLICA_SETS:
                self._take(next(one for one in self.sets if one.turn == action.name), action)
            self.check()
        return decided

    def _take(self, one: Set, change: Patch) -> None:
        one.notes = {**one.notes, **change.body["metadata"].get("annotations", {})}
        size = change.body.get("spec", {}).get("replicas", one.size)
        if size != one.size:
            before = self.available
            one.size, one.generation = size, one.generation + 1
            one.available = min(one.available, size)  # pods that are not ready are the first to go
            assert self.available >= min(before, self.limit.least_available)

    @property
    def available(self) -> int:
        return sum(one.available for one in self.sets)

    def check(self) -> None:
        """The bound on pods holds at every moment; that on availability is checked where sizes change."""
        assert sum(one.size for one in self.sets) <= self.limit.most

    def report(self, which: int) -> None:
        """A set's status catches up."""
        one = self.sets[which % len(self.sets)]
        one.reported, one.observed = one.available, one.generation

    def ready(self, which: int) -> None:
        """A pod becomes available; its set's status does not say so yet."""
        one = self.sets[which % len(self.sets)]
        one.available = min(one.size, one.available + 1)

    def lose(self, which: int) -> None:
        """A pod is lost, and its set says so."""
        one = self.sets[which % len(self.sets)]
        one.available = max(0, one.available - 1)
        one.reported = min(one.reported, one.available)

    def turn_to(self, which: int) -> None:
        """Somebody changes the template, to a new one or back to one of old."""
        self.turn = f"t{which % (self.turns + 1)}"
        self.turns = max(self.turns, which % (self.turns + 1) + 1)


AMOUNTS = st.one_of(st.integers(0, 4), st.sampled_from(["0%", "10%", "25%", "50%", "100%"]))
HAPPENINGS = st.tuples(
    st.sampled_from(["plan", "plan", "plan", "report", "report", "ready", "ready", "lose", "turn_to"]),
    st.integers(0, 7),
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), AMOUNTS, AMOUNTS, st.lists(HAPPENINGS, max_size=40))
def test_a_rollout_stays_within_its_bounds_and_ends(
    replicas: int, surge: int | str, unavailable: int | str, happenings: list[tuple[str, int]]
) -> None:
    rollout = Rollout(replicas, surge, unavailable)
    for what, which in happenings:
        getattr(rollout, what)(which)
        rollout.check()
    for _ in range(200):  # then nothing more goes wrong
        rollout.plan(100)
        for number in range(len(rollout.sets)):
            rollout.ready(number)
            rollout.report(number)
    assert {one.turn: one.size for one in rollout.sets if one.size} == ({rollout.turn: replicas} if replicas else {})


def test_the_model_would_notice_a_rollout_that_takes_too_much() -> None:
    rollout = Rollout(4, 1, 0)
    (one,) = rollout.sets
    with pytest.raises(AssertionError):
        rollout._take(one, Patch(resource=REPLICA_SETS, name="t0", body={"metadata": {}, "spec": {"replicas": 3}}))
    one.size = 6
    with pytest.raises(AssertionError):
        rollout.check()
