"""The drill file: what a user writes in YAML, as frozen structs, and its JSON schema.

    name: flaky-kubelet
    steps:
      - do: freeze
        node: $victim
        component: kubelet
      - do: wait
        seconds: 10

A file says the same as a drill in Python and becomes one (`build.py`). Errors name file, line and field.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec

from labctl import fields
from labctl.drills.kinds import REFERENCES, FaultStep, Label, step_types
from labctl.drills.measures import Measures
from labctl.drills.target import COMPONENTS
from labctl.drills.vocabulary import contracts, expectations
from labctl.fields import FieldError, Path_

SCHEMA_NAME = "drill.schema.json"
MAX_STEPS = 1_000  # once repeats are written out

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Text = Annotated[str, msgspec.Meta(max_length=2_000)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")]
Pick = Literal["busiest", "idlest", "random"]  # by how much of the workload runs there
Fencing = Literal["", "power", "self", "none"]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base: a mistyped field is an error."""


class Wait(_Part, frozen=True, tag_field="do", tag="wait"):
    """Nothing for a while; with `up_to`, for a time between the two that the seed chooses."""

    seconds: Seconds
    up_to: Seconds | None = None


class Parallel(_Part, frozen=True, tag_field="do", tag="parallel"):
    """Several faults at the same time."""

    steps: Annotated[tuple[FaultKind, ...], msgspec.Meta(min_length=1)]


class Repeat(_Part, frozen=True, tag_field="do", tag="repeat"):
    """The same steps several times."""

    times: Annotated[int, msgspec.Meta(ge=1, le=100)]
    steps: Annotated[tuple[AnyStep, ...], msgspec.Meta(min_length=1)]


class OneOf(_Part, frozen=True, tag_field="do", tag="one-of"):
    """One of the steps; the seed chooses."""

    steps: Annotated[tuple[AnyStep, ...], msgspec.Meta(min_length=1)]


class AnyOrder(_Part, frozen=True, tag_field="do", tag="any-order"):
    """All of the steps, in an order that the seed chooses."""

    steps: Annotated[tuple[AnyStep, ...], msgspec.Meta(min_length=1)]


class Lift(_Part, frozen=True, tag_field="do", tag="lift"):
    """Undo an earlier step that has this label, while the drill goes on."""

    label: Label


_SHAPES: Mapping[str, type[msgspec.Struct]] = {
    "wait": Wait, "parallel": Parallel, "repeat": Repeat, "one-of": OneOf, "any-order": AnyOrder, "lift": Lift,
}  # fmt: skip

if TYPE_CHECKING:
    FaultKind = FaultStep
    AnyStep = FaultStep | Wait | Parallel | Repeat | OneOf | AnyOrder | Lift
    Check = str
    ContractName = str
else:  # a union of what there is; msgspec looks these names up when it first decodes
    FaultKind = reduce(or_, step_types().values())
    AnyStep = reduce(or_, [*step_types().values(), *_SHAPES.values()])
    Check = Literal[tuple(expectations())]
    ContractName = Literal[tuple(contracts())]


class Victims(_Part, frozen=True):
    """Which workers the drill is about; `--node` on the command line overrides it."""

    count: Annotated[int, msgspec.Meta(ge=0, le=200)] = 1
    pick: Pick = "busiest"
    names: tuple[str, ...] = ()  # these, instead
    spare: Annotated[int, msgspec.Meta(ge=0, le=200)] = 1  # at least so many others must be left


class Limits(_Part, frozen=True):
    """Where a measure must lie, in seconds."""

    at_least: Seconds | None = None
    at_most: Seconds | None = None


class LoadFile(_Part, frozen=True):
    """The load all along: HTTP requests in an open loop, and sequenced records written to the API.

    Where it names no rate: 20 requests and 2 records a second, a quarter of that on emulated machines. With `stateful`
    records go to a StatefulSet, too, whose pod is released from a silent node by that kind of fencing.
    """

    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=500)] | None = None
    path: Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*$")] = "/"
    writes_per_s: Annotated[float, msgspec.Meta(gt=0, le=50)] | None = None
    stateful: Fencing = ""


_MEASURED = tuple(name for name in Measures.__struct_fields__ if name.endswith("_s"))
Expect: Any = msgspec.defstruct(
    "Expect",
    [(name, Limits | None, None) for name in _MEASURED],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    module=__name__,
    namespace={"__doc__": "Bounds of this drill's own, by measure, in seconds from the first fault."},
)


class DrillFile(_Part, frozen=True):
    """A drill, as a file."""

    name: Name
    steps: Annotated[tuple[AnyStep, ...], msgspec.Meta(min_length=1)]
    title: Text = ""
    shows: Text = ""
    seed: Seed = 1  # decides `one-of`, `any-order`, `up_to` and `pick: random`
    victims: Victims = Victims()
    victims_answer: bool = False  # they are reached all along: requests go by them, too
    hold_s: Seconds = 0.0  # the heal comes no earlier than this after the first fault
    load: LoadFile = LoadFile()
    contract: ContractName = "none"  # Kubernetes' own bounds for a failure of this sort
    expect: Expect = Expect()
    checks: tuple[Check, ...] = ()  # beside A to F, which are always checked


def load(path: Path) -> DrillFile:
    """Read a drill file; UsageError names file, line and field."""
    return parse(fields.read(path), str(path))


def parse(text: str, source: str) -> DrillFile:
    """Decode and check the text of a drill file; `source` names it in errors."""

    def decode(data: object) -> DrillFile:
        found: DrillFile = fields.convert(data, DrillFile, lambda path: _known(data, path), _forms)
        _check(found)
        return found

    return fields.parse(text, source, decode)


def schema() -> dict[str, Any]:
    """The JSON schema of a drill file, for editors."""
    found = msgspec.json.schema(DrillFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A drill of labctl", **found}


def _known(data: Any, path: Path_) -> tuple[str, ...]:
    """What may stand at `path`: tags for a `do`, words where there are only some, else the fields."""
    names = [part for part in path if isinstance(part, str)]
    if names and names[-1] == "do":
        inner = "parallel" in _tags_above(data, path[:-1])
        return (*step_types(), *(() if inner else _SHAPES))
    words = {
        "checks": tuple(expectations()),
        "contract": tuple(contracts()),
        "component": COMPONENTS,
        "pick": get_args(Pick),
    }
    if names and names[-1] in words:
        return words[names[-1]]
    return _struct_at(data, path).__struct_fields__


def _forms(path: Path_) -> tuple[str, ...]:
    names = [part for part in path if isinstance(part, str)]
    return (*REFERENCES, "a machine's name") if names and names[-1] in {"node", "on", "peers"} else ()


def _tags_above(data: Any, path: Path_) -> tuple[str, ...]:
    tags = []
    for part in path[:-2]:
        data = data[part]
        tags.append(data.get("do", "") if isinstance(data, dict) else "")
    if path[:-2] and isinstance(data, dict):
        tags.append(data.get("do", ""))
    return tuple(tags[-1:])


def _struct_at(data: Any, path: Path_) -> type[msgspec.Struct]:
    named: dict[str, type[msgspec.Struct]] = {"victims": Victims, "load": LoadFile, "expect": Expect}
    found: type[msgspec.Struct] = DrillFile
    for part in path:
        data = data[part]
        if isinstance(data, dict) and "do" in data:
            found = step_types().get(data["do"]) or _SHAPES.get(data["do"], DrillFile)
        elif isinstance(part, str):
            found = Limits if found is Expect else named.get(part, found)
    return found


def _check(found: DrillFile) -> None:
    """The rules that types cannot say."""
    labels: set[str] = set()
    number = _check_steps(found.steps, ("steps",), labels)
    if number > MAX_STEPS:
        raise FieldError(("steps",), f"{number} steps once repeats are written out; at most {MAX_STEPS}")
    for measure in _MEASURED:
        limits = getattr(found.expect, measure)
        if limits is None:
            continue
        if limits.at_least is None and limits.at_most is None:
            raise FieldError(("expect", measure), "neither at_least nor at_most")
        if limits.at_least is not None and limits.at_most is not None and limits.at_least > limits.at_most:
            raise FieldError(("expect", measure), "at_least is more than at_most")
    if found.victims.names and len(set(found.victims.names)) != len(found.victims.names):
        raise FieldError(("victims", "names"), "a name stands twice")


def _check_steps(steps: tuple[AnyStep, ...], path: Path_, labels: set[str]) -> int:
    """How many steps they are, written out; `labels` gains those that a later `lift` may name."""
    number = 0
    for index, step in enumerate(steps):
        at = (*path, index)
        match step:
            case Wait(seconds=least, up_to=most) if most is not None and most < least:
                raise FieldError((*at, "up_to"), "less than seconds")
            case Lift(label=label) if label not in labels:
                raise FieldError(
                    (*at, "label"), f"no earlier step is labelled {label!r}{fields.meant(label, sorted(labels))}"
                )
            case Repeat(times=times, steps=inner):
                number += times * _check_steps(inner, (*at, "steps"), labels)
            case Parallel(steps=together):
                number += _check_steps(together, (*at, "steps"), labels)
            case OneOf(steps=inner) | AnyOrder(steps=inner):
                number += _check_steps(inner, (*at, "steps"), labels)
            case FaultStep(label=label):
                labels |= {label} - {""}
                number += 1
            case _:
                number += 1
    return number
