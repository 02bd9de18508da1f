"""What a drill would do to a lab, without doing it: everything is read, nothing is written, so it is safe anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from labctl.drills import identity, inspection, lease, steady, undo, workload
from labctl.drills.contract import Bound
from labctl.drills.faults import Lift, Pause, Step, heals_of
from labctl.drills.model import Drill, Options
from labctl.drills.records import Scene
from labctl.drills.target import Target
from labctl.drills.workload import Workload
from labctl.runtime.clock import SystemClock


class Strike(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, the machines it would strike, and what would undo it."""

    fault: str
    nodes: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole drill as it would run now."""

    drill: str
    title: str
    lab: str
    provider: str
    profile: str
    workload: str
    blocked: tuple[str, ...]  # why it would not begin now, a sentence each; empty in a steady state
    victims: tuple[str, ...]
    load: str
    faults: tuple[Strike, ...]
    cleanups: tuple[str, ...]  # what is removed at the end
    bounds: tuple[Bound, ...]  # what is measured and must hold
    checks: Mapping[str, str]  # invariants by letter

    @property
    def exit_code(self) -> int:
        """0 where the drill could begin, 1 where it would be refused."""
        return 1 if self.blocked else 0


def propose(drill: Drill, target: Target, options: Options) -> Plan:
    """Ask the lab and say what would happen; UsageError where the drill cannot have what it needs here."""
    steady.check_possible(drill, target)
    steady.check_reachable(target)
    found = workload.find(target.client)
    scene = steady.set_scene(target, drill, options, found or workload.OWN)
    made = [f"delete configmaps/labctl-drill-writes in {scene.namespace}"]
    if scene.identity:
        made.append(f"delete statefulsets/{identity.NAME} and services/{identity.NAME} in {scene.namespace}")
    own = () if found else tuple(action.text for action in workload.own_cleanups())
    return Plan(
        drill=drill.name,
        title=drill.title,
        lab=target.lab,
        provider=target.provider,
        profile=target.profile.name,
        workload=_workload(scene, found),
        blocked=tuple(_blocked(target, found)),
        victims=scene.victims,
        load=_load(drill, options, scene),
        faults=tuple(_strike(step, target) for step in drill.faults(scene)),
        cleanups=(*own, *made, *((lease.Release("").text,) if target.shared else ())),
        bounds=drill.bounds(target.profile, scene),
        checks={letter: title for letter, (title, _) in drill.checkers.items()},
    )


def _load(drill: Drill, options: Options, scene: Scene) -> str:
    rates, demand = options.under(drill.demand, scene.slowness), drill.demand
    ways = " and ".join(scene.answering)
    return (
        f"{rates.rate_per_s:g} requests a second for {demand.path} to {ways}; "
        f"{rates.writes_per_s:g} sequenced records a second to the API"
        + (
            f", and as many to the StatefulSet's pod {scene.identity} (fencing: {scene.fencing})"
            if scene.identity
            else ""
        )
    )


def _strike(step: Step, target: Target) -> Strike:
    match step:
        case Pause(seconds=seconds):
            return Strike(fault=f"wait {seconds:g} s")
        case Lift(fault=fault):
            return Strike(fault=f"undo already now: {fault.text}", nodes=fault.nodes)
        case fault:
            actions = tuple(action.text for action in reversed(heals_of((fault,), target)))
            return Strike(fault=fault.text, nodes=fault.nodes, undo=actions)


def _blocked(target: Target, found: Workload | None) -> Iterator[str]:
    left = undo.load(target.drills_dir)
    if left is not None:
        actions = (*left.heals, *left.cleanups)
        yield f"an earlier drill ({left.drill}) is not undone: {'; '.join(action.text for action in actions)}"
    if target.shared and (holder := lease.held(target.client, SystemClock())):
        yield holder
    seen = inspection.take(target, "steady", machines=False)
    yield from inspection.blocking(seen, found) if found else inspection.unready(seen)


def _workload(scene: Scene, found: Workload | None) -> str:
    if found is None:
        return (
            f"no Deployment is labelled {workload.LABEL}: {scene.namespace}/{scene.deployment} would be made, "
            f"{scene.replicas} replicas, and the victims chosen by where its pods run"
        )
    return f"{scene.namespace}/{scene.deployment}, {scene.replicas} replicas, {scene.on_victims} of them on the victims"
