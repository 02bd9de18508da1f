"""Invariants B and D: what machines were seen to run, and when. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from labctl.drills import lives
from labctl.drills.findings import Case, Result, Said, some
from labctl.drills.history import History
from labctl.drills.records import Counted, HealBegan, Inspected, PodSeen, Sampled
from labctl.drills.timeline import condemned


def one_per_identity(case: Case) -> Said:
    """B: at most one live container per StatefulSet identity, counted inside the machines."""
    owned = {
        (pod.namespace, pod.name)
        for _, pod in case.history.of(PodSeen)
        if pod.owner.startswith("StatefulSet/")
    }  # fmt: skip
    if not owned:
        return Result.NOT_APPLICABLE, "the lab runs no StatefulSet"
    looks = list(_looks(case.history))
    if not looks and not lives.turned_back(case.history):
        return Result.UNKNOWN, "no machine could be asked what it runs"
    spans: dict[tuple[str, str, str], dict[tuple[str, str], tuple[str, float, float]]] = {}
    for at_s, look in looks:
        for machine in look:
            for entry in machine.containers:
                if entry.running and (entry.namespace, entry.pod) in owned:
                    seen = spans.setdefault((entry.namespace, entry.pod, entry.name), {})
                    life = (machine.node, entry.id)  # a copied machine has the same ids
                    seen[life] = (machine.node, seen[life][1] if life in seen else at_s, at_s)
    doubled = [text for identity, seen in spans.items() for text in _overlaps(identity, seen)]
    doubled += lives.turned_back(case.history)
    if doubled:
        return Result.FAIL, f"doubled: {some(doubled)}"
    words = f"{len(spans)} identities in {len(looks)} looks into the machines, none live twice at a time"
    if case.scene.identity:
        sent = lives.taken(case.history)
        words += (
            f"; {len({record.life for _, record in sent})} pods took {len(sent)} records of it, one after the other"
        )
    return Result.PASS, words


def no_overlap(case: Case) -> Said:
    """D: seconds in which a pod that had been given up still ran."""
    gone = {uid: (at_s, pod) for uid, (at_s, pod) in condemned(case.history, case.scene).items() if at_s is not None}
    if not gone:
        return Result.NOT_APPLICABLE, "no pod was given up"
    heal = case.history.first(HealBegan)
    looks = [(at_s, look) for at_s, look in _looks(case.history) if heal and at_s >= heal[0]]
    asked = {machine.node for _, look in looks for machine in look if not machine.error}
    if missing := sorted({pod.node for _, pod in gone.values()} - asked):
        return Result.UNKNOWN, f"{', '.join(missing)} could not be asked after the heal"
    ran: dict[str, list[float]] = {}
    for at_s, look in looks:
        for machine in look:
            for entry in machine.containers:
                if entry.running and entry.uid in gone and at_s > gone[entry.uid][0]:
                    ran.setdefault(entry.uid, []).append(at_s)
    if ran:
        worst_s = max(times[-1] - times[0] for times in ran.values())
        names = sorted(f"{gone[uid][1].name} on {gone[uid][1].node}" for uid in ran)
        return Result.FAIL, f"given up, yet running after the heal, for at least {worst_s:.1f} s: {some(names)}"
    return Result.PASS, f"0 s: none of {len(gone)} given-up pods was seen running in {len(looks)} looks after the heal"


def _looks(history: History) -> Iterator[tuple[float, tuple[Counted, ...]]]:
    """Every look into machines, those of the inspections included."""
    for entry in history:
        if isinstance(entry.what, Sampled | Inspected) and any(not one.error for one in entry.what.machines):
            yield entry.t_s, entry.what.machines


def _overlaps(
    identity: tuple[str, str, str], lives: Mapping[tuple[str, str], tuple[str, float, float]]
) -> Iterator[str]:
    """Two containers of one identity, each seen running while the other was."""
    ordered = sorted(lives.values(), key=lambda life: life[1])
    for earlier, later in pairwise(ordered):
        if later[1] <= earlier[2]:
            yield f"{'/'.join(identity)} on {earlier[0]} and {later[0]}"
