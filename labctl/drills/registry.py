"""The drills there are, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from labctl.drills import catalog as folder
from labctl.drills.model import Drill
from labctl.runtime.discovery import discover
from labctl.runtime.errors import UsageError


def catalog() -> Mapping[str, Drill]:
    """Every drill of the catalog folder, by name."""
    return discover(folder, "DRILL", Drill)


def drill_named(name: str) -> Drill:
    """The drill; UsageError that guesses at the one meant and lists those there are."""
    known = catalog()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"there is no drill {name!r}", hint=f"{hint}the drills are: {', '.join(known)}")
