"""From a drill file to a drill: who is struck, by which faults in which order, and what must hold. Pure.

Chance comes from the file's seed alone, and is drawn afresh each time, so that a dry run tells what the run will do.
"""

from __future__ import annotations

import random  # noqa: TID251 - the type of a generator that `seeded` makes
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from labctl.drills import kinds, language
from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import Bound
from labctl.drills.faults import Fault, Lift, Pause, Step, Together
from labctl.drills.faults_network import peers
from labctl.drills.findings import Checker
from labctl.drills.language import DrillFile, Victims
from labctl.drills.measures import Measures
from labctl.drills.model import Demand, Drill, Facts
from labctl.drills.records import Scene
from labctl.drills.vocabulary import contracts, expectations
from labctl.kube.timing import Profile
from labctl.runtime.errors import UsageError
from labctl.runtime.loop import seeded

_GROUPS = {"victim": "victims", "survivor": "survivors", "master": "masters"}


def drill_of(file: DrillFile, text: str = "") -> Drill:
    """The drill that the file describes; `text` is kept with each run, so that an interrupted one can be judged."""
    return Drill(
        name=file.name,
        title=file.title or file.name,
        shows=file.shows or "A drill from a file.",
        steps=("steady state", *_told(file.steps), "heal, and judge"),
        choose=lambda facts, asked: _chosen(file, facts, asked),
        faults=lambda scene: _Course(file, scene).steps(file.steps),
        bounds=lambda profile, scene: _bounds(file, profile, scene),
        holds_s=lambda _: file.hold_s,
        victims_answer=file.victims_answer,
        checkers=_checkers(file),
        demand=Demand(**msgspec.structs.asdict(file.load)),
        text=text,
    )


def _chosen(file: DrillFile, facts: Facts, asked: Sequence[str]) -> tuple[str, ...]:
    """The victims; UsageError where the lab has not what the file names."""
    wanted = file.victims
    machines = {*facts.nodes, *facts.masters}
    if strange := sorted(_named(file.steps) - machines):
        raise UsageError(
            f"{file.name}: there is no machine {strange[0]!r}", hint=f"the machines are: {', '.join(sorted(machines))}"
        )
    names = tuple(asked) or wanted.names
    count = len(set(names)) or wanted.count
    if count == 0:
        return ()
    choose = busiest(count, spare=wanted.spare)
    if names or wanted.pick == "busiest":
        return choose(facts, names)
    choose(facts, ())  # whether there are enough of them
    return _picked(wanted, facts, seeded(file.seed))[:count]


def _picked(wanted: Victims, facts: Facts, chance: random.Random) -> tuple[str, ...]:
    if wanted.pick == "random":
        return tuple(chance.sample(sorted(facts.nodes), len(facts.nodes)))
    load = Counter(pod.node for pod in facts.pods if not pod.deleting)
    return tuple(sorted(facts.nodes, key=lambda name: (load[name], name)))


def _named(steps: Sequence[language.AnyStep]) -> set[str]:
    """The machines that steps name outright."""
    found: set[str] = set()
    for step in steps:
        inner = getattr(step, "steps", ())
        words = (getattr(step, "node", ""), *getattr(step, "peers", ()), *getattr(step, "on", ()))
        found |= _named(inner) | {word for word in words if word and not word.startswith("$")}
    return found


class _Course:
    """The steps of one run, written out: references looked up, chance decided."""

    def __init__(self, file: DrillFile, scene: Scene) -> None:
        self._scene, self._chance = scene, seeded(file.seed)
        self._labelled: dict[str, Fault] = {}

    def steps(self, steps: Sequence[language.AnyStep]) -> tuple[Step, ...]:
        """All of them, in order."""
        return tuple(each for step in steps for each in self._step(step))

    def _step(self, step: language.AnyStep) -> tuple[Step, ...]:
        match step:
            case language.Wait(seconds=least, up_to=most):
                return (Pause(least if most is None else round(self._chance.uniform(least, most), 1)),)
            case language.Parallel(steps=inner):
                return (Together(tuple(fault for each in inner for fault in self._faults(each))),)
            case language.Repeat(times=times, steps=inner):
                return tuple(each for _ in range(times) for each in self.steps(inner))
            case language.OneOf(steps=inner):
                return self._step(self._chance.choice(inner))
            case language.AnyOrder(steps=inner):
                return self.steps(self._chance.sample(inner, len(inner)))
            case language.Lift(label=label):
                return (Lift(self._labelled[label]),) if label in self._labelled else ()
            case kinds.FaultStep():
                return (_one(self._faults(step)),)
        raise AssertionError(step)

    def _faults(self, step: kinds.FaultStep) -> tuple[Fault, ...]:
        """One for each node that `node` stands for."""
        kind = str(type(step).__struct_config__.tag)
        values = {name: getattr(step, name) for name in step.__struct_fields__ if name != "label"}
        nodes = self._nodes(values.pop("node")) if "node" in values else ("",)
        found = []
        for node in nodes:
            own: dict[str, Any] = {"node": node} if node else {}
            if "peers" in values:
                own["peers"] = self._peers(values["peers"], node)
            if "on" in values:
                own["on"] = tuple(dict.fromkeys(name for word in values["on"] for name in self._nodes(word)))
            workload = {"namespace": self._scene.namespace, "selector": self._scene.selector}
            found.append(kinds.make(kind, {**workload, **values, **own}))
        if step.label:
            self._labelled[step.label] = _one(tuple(found))
        return tuple(found)

    def _nodes(self, word: str) -> tuple[str, ...]:
        """The machines that a reference stands for; UsageError where this lab has none such."""
        if not word.startswith("$"):
            return (word,)
        stem, digits = word[1:].rstrip("0123456789"), word[1:].lstrip("abcdefghijklmnopqrstuvwxyz")
        group: tuple[str, ...] = getattr(self._scene, _GROUPS.get(stem, stem))
        found = group if stem not in _GROUPS else group[int(digits or 1) - 1 :][:1]
        if not found:
            raise UsageError(
                f"{word} stands for no machine here", hint=f"{_GROUPS.get(stem, stem)}: {', '.join(group) or 'none'}"
            )
        return found

    def _peers(self, words: Sequence[str], node: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each peer's name, address and pod network; a node is not its own peer."""
        names = dict.fromkeys(name for word in words for name in self._nodes(word) if name != node)
        if not names:
            raise UsageError(f"{node} would be cut from nobody but itself", hint="name other peers")
        return peers(self._scene, names, pods=True)


def _one(faults: tuple[Fault, ...]) -> Fault:
    return faults[0] if len(faults) == 1 else Together(faults)


def _bounds(file: DrillFile, profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """Those of the contract, with the file's own in their place or beside them."""
    found = {bound.measure: bound for bound in contracts()[file.contract](profile, scene)}
    for measure in Measures.__struct_fields__:
        limits = getattr(file.expect, measure, None)
        if limits is not None:
            before = found.get(measure, Bound(measure=measure, title=_title(measure)))
            found[measure] = msgspec.structs.replace(
                before, lower_s=limits.at_least, upper_s=limits.at_most, source="the drill file"
            )
    return tuple(found.values())


def _title(measure: str) -> str:
    return measure.removesuffix("_s").replace("_", " ").capitalize()


def _checkers(file: DrillFile) -> Mapping[str, tuple[str, Checker]]:
    found = dict(CHECKERS)
    for word in file.checks:
        found.update(expectations()[word])
    return found


def _told(steps: Sequence[language.AnyStep], depth: int = 0) -> tuple[str, ...]:
    """The steps in words, before it is known whom they strike."""
    told = []
    for step in steps:
        values = {name: getattr(step, name) for name in step.__struct_fields__ if name != "steps"}
        words = ", ".join(f"{name} {_word(value)}" for name, value in values.items() if value not in ("", None, ()))
        told.append("  " * depth + f"{step.__struct_config__.tag} {words}".rstrip())
        told += _told(getattr(step, "steps", ()), depth + 1)
    return tuple(told)


def _word(value: object) -> str:
    return (
        " ".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
