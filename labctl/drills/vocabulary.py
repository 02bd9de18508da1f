"""The words that a drill file may use for contracts and expectations: what `contract.py` and `expect.py` offer.

A new function `(profile, scene) -> tuple[Bound, ...]`, or a new constant Expectation, is a new word at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache

from labctl.drills import contract, expect
from labctl.drills.contract import Bound
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

Bounds = Callable[[Profile, Scene], tuple[Bound, ...]]


def none(_profile: Profile, _scene: Scene) -> tuple[Bound, ...]:
    """No bound: only what the file itself expects."""
    return ()


@cache
def contracts() -> Mapping[str, Bounds]:
    """Contracts by word, e.g. `silent-node`."""
    found: dict[str, Bounds] = {"none": none}
    for name, function in sorted(vars(contract).items()):
        if not inspect.isfunction(function) or name.startswith("_") or function.__module__ != contract.__name__:
            continue
        signature = inspect.signature(function)
        if list(signature.parameters) == ["profile", "scene"] and "tuple[Bound" in str(signature.return_annotation):
            found[_word(name)] = function
    return found


@cache
def expectations() -> Mapping[str, expect.Expectation]:
    """Expectations by word, e.g. `no-eviction`."""
    return {
        _word(name): value
        for name, value in sorted(vars(expect).items())
        if name.isupper() and not name.startswith("_") and _is_expectation(value)
    }


def _is_expectation(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, tuple) and callable(one[-1]) for one in value.values())


def _word(name: str) -> str:
    return name.lower().replace("_", "-")
