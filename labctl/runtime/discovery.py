"""Catalog folders: every module exports one constant; a missing or doubled one is an error at start."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TypeVar

from labctl.runtime.errors import LabError

T = TypeVar("T")


def discover(package: ModuleType, constant: str, kind: type[T]) -> dict[str, T]:
    """Import each module of `package` in name order; map the `name` of each one's `constant` to it.

    `kind` must be a runtime-checkable protocol or a class, with a string attribute `name`.
    """
    found: dict[str, T] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda entry: entry.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        value = getattr(module, constant, None)
        if not isinstance(value, kind):
            raise LabError(f"{module.__name__} must export {constant}, a {kind.__name__}")
        name: str = value.name  # type: ignore[attr-defined]
        if name in found:
            raise LabError(f"{module.__name__}: a second {constant} is named {name!r}")
        found[name] = value
    return found
