"""Deliberately broken builds, by name: each breaks one promise, which the simulation has to notice.

A mutant replaces one function of the real code for as long as its block lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from agents.kubelet import guard
from agents.kubelet.enforcer import Enforcer, Stepped
from agents.kubelet.roster import Roster
from agents.kubelet.self_fencing import SelfFencing
from labctl.kube.election import Election
from labctl.kube.fencing import Bounds
from labctl.kube.resources import PODS, REPLICA_SETS
from labctl.kube.timing import Profile
from labctl.runtime.errors import UsageError
from labctl.runtime.loop import Backoff
from labctl.sim.fence_agent import FenceAgent
from labctl.sim.node_parts import Kubelet
from labctl.sim.promises import Promise
from labctl.sim.world import NODE_NAMES
from master.apiserver import eviction, subresources
from master.apiserver.quota import Quotas
from master.apiserver.storage import Storage
from master.controllers import loop, process
from master.controllers.apply import Applier
from master.controllers.catalog import fencing
from master.controllers.protocol import Action, Controller, Create, Delete, Patch, Plan, PowerOff, Step, World
from master.scheduler.binder import Binder
from master.scheduler.cycle import Placed

Swap = tuple[Any, str, Any]  # an owner, its attribute, what stands there instead
Swaps = Callable[[], tuple[Swap, ...]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is broken, and the invariant that must notice."""

    name: str
    words: str
    breaks: Promise
    swaps: Swaps
    seed: int = 0  # the first one that notices, when this was written: tests begin there


MUTANTS: dict[str, Mutant] = {}


def _breaks(promise: Promise, *, seed: int = 0) -> Callable[[Swaps], Swaps]:
    """Make a mutant of a function: its name and its docstring are the mutant's."""

    def register(swaps: Swaps) -> Swaps:
        name = swaps.__name__.strip("_").replace("_", "-")
        words = (swaps.__doc__ or "").removesuffix(".")
        MUTANTS[name] = Mutant(name, words[0].lower() + words[1:], promise, swaps, seed)
        return swaps

    return register


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Run what is inside against the broken build; "" is the sound one. UsageError where there is no such mutant."""
    if name and name not in MUTANTS:
        raise UsageError(f"no broken build is named {name!r}", hint=f"there are: {', '.join(MUTANTS)}")
    swaps = MUTANTS[name].swaps() if name else ()
    before = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in swaps]
    for owner, attribute, value in swaps:
        setattr(owner, attribute, value)
    try:
        yield
    finally:
        for owner, attribute, value in before:
            setattr(owner, attribute, value)


def _changed(controller: str, change: Callable[[Action], Action]) -> tuple[Swap, ...]:
    """A controller whose every action is changed."""
    original = process.controllers

    def alter(found: Controller) -> Controller:
        def plan(world: World, memory: Any) -> Plan:
            made = found.plan(world, memory)
            steps = tuple(replace(step, actions=tuple(map(change, step.actions))) for step in made.steps)
            return replace(made, steps=steps)

        return replace(found, plan=plan)

    def controllers() -> dict[str, Controller]:
        known = original()
        return known | {controller: alter(known[controller])}

    return ((process, "controllers", controllers),)


@_breaks(Promise.IDENTITY)
def _unfenced() -> tuple[Swap, ...]:
    """Eviction deletes with grace 0, whoever may still run there."""

    def force(action: Action) -> Action:
        at_once = isinstance(action, Delete) and action.resource == PODS
        return replace(action, grace_s=0) if at_once and isinstance(action, Delete) else action

    return _changed("taint_eviction", force)


@_breaks(Promise.BOUND_ONCE)
def _binds_again() -> tuple[Swap, ...]:
    """Two schedulers are at work, and the API server binds what is bound."""
    original = subresources.bind

    class Forgetful:
        """Storage that shows a pod without its node."""

        def __init__(self, storage: Any) -> None:
            self._storage = storage

        def change(self, kind: Any, namespace: str, name: str, change: Any, **options: Any) -> Any:
            def blind(pod: Any) -> Any:
                pod["spec"].pop("nodeName", None)
                return change(pod)

            return self._storage.change(kind, namespace, name, blind, **options)

    def bind(context: Any, *rest: Any) -> Any:
        return original(replace(context, storage=Forgetful(context.storage)), *rest)

    once = Binder._bind

    def twice(self: Binder, decision: Placed) -> None:
        once(self, decision)
        once(self, replace(decision, node=next(name for name in NODE_NAMES if name != decision.node)))

    return ((subresources, "bind", bind), (Binder, "_bind", twice))


@_breaks(Promise.ONE_NODE)
def _foreign_pods() -> tuple[Swap, ...]:
    """A kubelet runs the pods of every node."""
    original = Kubelet.boot

    def boot(self: Kubelet) -> None:
        self.selects = ""
        original(self)

    return ((Kubelet, "boot", boot), (Kubelet, "_is_mine", lambda _self, _note: True))


@_breaks(Promise.DURABLE)
def _answers_first() -> tuple[Swap, ...]:
    """The API server answers before it stores."""
    original = Storage._attempt

    def attempt(self: Storage, where: Any, raw: bytes, revision: int, change: Any, **options: Any) -> Any:
        if "/pods/" not in where[0] or self.store.revision() % 20:
            return original(self, where, raw, revision, change, **options)
        done = original(self, where, raw, revision, change, dry_run=True)
        document = done[0].replace(f'"{revision}"'.encode(), f'"{revision + 10**6}"'.encode(), 1)
        return document, done[1], True

    return ((Storage, "_attempt", attempt),)


@_breaks(Promise.BUDGETS)
def _no_budget() -> tuple[Swap, ...]:
    """Evictions ask no PodDisruptionBudget."""
    return ((eviction, "_spend", lambda *_args, **_options: ""),)


@_breaks(Promise.QUOTAS)
def _no_quota() -> tuple[Swap, ...]:
    """Nothing is charged to a ResourceQuota."""
    return ((Quotas, "charge", lambda *_args, **_options: None),)


@_breaks(Promise.SETTLES)
def _keeps_orphans() -> tuple[Swap, ...]:
    """The kubelet leaves alone what the API has forgotten."""
    once = Roster._take_pods

    def take(self: Roster, *rest: Any) -> None:
        once(self, *rest)
        for memory in self.memories.values():
            memory.removed = memory.confirmed

    return ((Roster, "_take_pods", take), (Roster, "_take_orphans", lambda *_args: None))


@_breaks(Promise.SETTLES)
def _gives_up() -> tuple[Swap, ...]:
    """A controller does not try again what failed."""

    class Never(Backoff):
        """A backoff that ends all retries."""

        def next_s(self) -> float:
            return 1e9

    held = loop._Held

    def make(until_s: float) -> Any:
        return held(until_s, Never())

    return ((loop, "_Held", make),)


@_breaks(Promise.SURGE)
def _surges() -> tuple[Swap, ...]:
    """A rollout asks for one pod too many."""

    def more(action: Action) -> Action:
        if isinstance(action, Patch) and action.resource == REPLICA_SETS and "replicas" in action.body.get("spec", {}):
            wanted = action.body["spec"]["replicas"]
            body = {**action.body, "spec": {**action.body["spec"], "replicas": wanted and wanted + 1}}
            return replace(action, body=body)
        return action

    return _changed("deployment", more)


@_breaks(Promise.AVAILABLE, seed=233)
def _rolls_hard() -> tuple[Swap, ...]:
    """A rollout takes the last old pods before new ones are there."""

    def none_left(action: Action) -> Action:
        wanted = action.body.get("spec", {}).get("replicas") if isinstance(action, Patch) else None
        if isinstance(action, Patch) and action.resource == REPLICA_SETS and wanted == 1:
            return replace(action, body={**action.body, "spec": {**action.body["spec"], "replicas": 0}})
        return action

    return _changed("deployment", none_left)


@_breaks(Promise.CREATED_ONCE)
def _creates_again() -> tuple[Swap, ...]:
    """A ReplicaSet's pods are created twice."""
    original = Applier.perform

    def perform(self: Applier, step: Step, action: Action) -> None:
        original(self, step, action)
        if isinstance(action, Create) and step.about.kind == "ReplicaSet":
            meta = action.body["metadata"]
            again = {**action.body, "metadata": {**meta, "name": f"{meta.get('name', 'pod')}x"}}
            original(self, step, replace(action, body=again))

    return ((Applier, "perform", perform),)


@_breaks(Promise.LEADER, seed=16)
def _unguarded() -> tuple[Swap, ...]:
    """A leader does not look at its lease before it writes."""
    return ((Election, "guard", lambda _: None),)


@_breaks(Promise.NO_STUMBLE)
def _stumbles() -> tuple[Swap, ...]:
    """A controller's plan fails where there is much to do."""
    original = process.controllers

    def controllers() -> dict[str, Controller]:
        known = original()
        plan = known["replicaset"].plan

        def fails(world: World, memory: Any) -> Plan:
            made = plan(world, memory)
            if len(made.steps) > 3:
                raise RuntimeError("too much to do")
            return made

        return known | {"replicaset": replace(known["replicaset"], plan=fails)}

    return ((process, "controllers", controllers),)


@_breaks(Promise.IDENTITY, seed=86)
def _fences_nothing() -> tuple[Swap, ...]:
    """The fence agent confirms, and the machine runs on."""
    return ((FenceAgent, "power_off", lambda _self, _node: None),)


@_breaks(Promise.IDENTITY, seed=16)
def _stops_late() -> tuple[Swap, ...]:
    """Kubelet and guard stop fenced pods three seconds too late."""
    original = Bounds.of

    def of(profile: Profile) -> Bounds:
        sound = original(profile)
        late = {name: getattr(sound, name) + 3.0 for name in ("term_after_s", "kill_after_s", "dead_by_s")}
        return replace(sound, **late)

    return ((Bounds, "of", staticmethod(of)),)


@_breaks(Promise.IDENTITY, seed=16)
def _never_stops() -> tuple[Swap, ...]:
    """Kubelet, guard and watchdog stop no fenced pod."""
    return ((Enforcer, "step", lambda _self: Stepped(wake_after_s=1.0)), (guard, "may_pet", lambda *_, **__: True))


@_breaks(Promise.IDENTITY, seed=16)
def _starts_unasked() -> tuple[Swap, ...]:
    """What was stopped starts again without asking whether it may."""
    return (
        (SelfFencing, "held", lambda *_: False),
        (Enforcer, "end", lambda self, uids: [self.cgroups.kill(self._path(uid)) for uid in sorted(uids)]),
    )


@_breaks(Promise.IDENTITY, seed=135)
def _releases_first() -> tuple[Swap, ...]:
    """An identity is released before its machine is confirmed off."""
    original = process.controllers

    def plan(world: World, memory: Any) -> Plan:
        made = fencing.plan(world, memory)
        steps = tuple(
            replace(step, actions=tuple(sorted(step.actions, key=lambda action: isinstance(action, PowerOff))))
            for step in made.steps
        )
        return replace(made, steps=steps)

    return ((process, "controllers", lambda: original() | {"fencing": replace(fencing.CONTROLLER, plan=plan)}),)
