"""The drills there are, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from labctl import fields
from labctl.drills import catalog as folder
from labctl.drills import language
from labctl.drills.build import drill_of
from labctl.drills.model import Drill
from labctl.runtime.discovery import discover
from labctl.runtime.errors import UsageError

FILE_NAME = "drill.yaml"  # in a run's folder, where the drill was read from a file


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


def drill_of_run(run_dir: Path, name: str) -> Drill:
    """The drill that a run was of: from the file kept with it, else the catalog's; UsageError where it is neither."""
    kept = run_dir / FILE_NAME
    return drill_from(kept) if kept.exists() else drill_named(name)


def drill_from(path: Path) -> Drill:
    """The drill that a file describes; UsageError names file, line and field."""
    text = fields.read(path)
    return drill_of(language.parse(text, str(path)), text)
