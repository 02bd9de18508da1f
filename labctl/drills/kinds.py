"""The kinds of faults that a drill file may name: each public dataclass of a `faults*.py` that is a Fault, by itself.

A new fault class is a new kind at once, named as the class (`PowerOff`: `power-off`), with the class's fields. Some
fields mean more in a file than in Python: `node` may be a reference that stands for several, `on` are references,
`peers` are references whose addresses are looked up, `component` is one of those that a lab has; and `namespace` and
`selector` are the workload's and not written at all.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import msgspec

from labctl import drills
from labctl.drills.faults import Fault
from labctl.drills.target import COMPONENTS

_NEEDED = ("text", "nodes", "heals", "inject", "took")
OF_WORKLOAD = ("namespace", "selector")
_PLAIN = (str, int, float, bool)
_Component = Literal[COMPONENTS]  # type: ignore[valid-type]

Node = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(\$(victims?|survivors?|masters?|victim[1-9]|survivor[1-9]|master[1-9])|[a-z0-9]([-.a-z0-9]*[a-z0-9])?)$",
        description="A machine's name, or $victim, $victims, $victim2, $survivor, $survivors, $master, $masters.",
        examples=["$victim", "$victims", "$masters", "worker1"],
    ),
]
REFERENCES = ("$victim", "$victims", "$survivor", "$survivors", "$master", "$masters")
Label = Annotated[str, msgspec.Meta(description="A name for this step, so that a `lift` can undo it.")]


class FaultStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"):
    """Base of the steps that inject a fault."""

    label: Label = ""


@cache
def kinds() -> Mapping[str, type]:
    """Every fault class that a file can name, by kind."""
    return {kind: found for kind, found in sorted(_classes(), key=lambda item: item[0]) if _fields(found) is not None}


@cache
def step_types() -> Mapping[str, type[FaultStep]]:
    """How each kind is written in a file."""
    return {kind: _step_type(kind, found) for kind, found in kinds().items()}


def _classes() -> Iterator[tuple[str, type]]:
    for info in pkgutil.iter_modules(drills.__path__):
        if not info.name.startswith("faults"):
            continue
        module = importlib.import_module(f"{drills.__name__}.{info.name}")
        for name, found in vars(module).items():
            if not isinstance(found, type) or found.__module__ != module.__name__ or name.startswith("_"):
                continue
            if hasattr(found, "__dataclass_fields__") and all(hasattr(found, needed) for needed in _NEEDED):
                yield re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower(), found


def _fields(found: type) -> list[tuple[str, Any, Any]] | None:
    """Name, type in a file, and default; None where a field cannot be written in a file."""
    hints, told = get_type_hints(found), []
    for field in (each for each in dataclasses.fields(found) if each.init and each.name not in OF_WORKLOAD):
        kind = _written(field.name, hints[field.name])
        if kind is None:
            return None
        told.append((field.name, kind, _default(field)))
    return told


def _written(name: str, hint: Any) -> Any:
    special = {"node": Node, "peers": tuple[Node, ...], "on": tuple[Node, ...], "component": _Component}
    if name in special:
        return special[name]
    if hint in _PLAIN or hint in (tuple[str, ...], dict[str, str], Mapping[str, str]) or get_origin(hint) is Literal:
        return hint
    return None


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return msgspec.NODEFAULT


def _step_type(kind: str, found: type) -> type[FaultStep]:
    fields = _fields(found) or []
    made = msgspec.defstruct(
        "".join(part.title() for part in kind.split("-")),
        fields,
        bases=(FaultStep,),
        tag=kind,
        kw_only=True,
        module=__name__,
        namespace={"__doc__": found.__doc__},
    )
    assert issubclass(made, FaultStep)
    return made


def make(kind: str, values: Mapping[str, Any]) -> Fault:
    """The fault of that kind; of `values` those that it has."""
    found = kinds()[kind]
    names = {field.name for field in dataclasses.fields(found)}
    fault: Fault = found(**{name: value for name, value in values.items() if name in names})
    return fault
