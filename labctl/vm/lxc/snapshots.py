"""Named copies of a lab's disks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from labctl.runtime.errors import UsageError


class Snapshots:
    """The folder that keeps them: <name>/<machine>/ and <name>/saved-at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Where the snapshot `name` lies or would lie; UsageError where that is no name for one."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
            raise UsageError(f"{name!r} is no name for a snapshot", hint="letters, digits, '.', '_' and '-'")
        return self._folder / name

    def begin(self, name: str) -> Path:
        """An empty place to copy into; UsageError where `name` is taken."""
        if self.path(name).exists():
            raise UsageError(f"snapshot {name!r} exists", hint="delete it first, or choose another name")
        partial = self._folder / f".{name}.new"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
        return partial

    def finish(self, name: str, saved_at: str) -> None:
        """Make the copy known under its name, in one step."""
        partial = self._folder / f".{name}.new"
        (partial / "saved-at").write_text(saved_at)
        partial.rename(self.path(name))

    def names(self) -> Sequence[str]:
        """The finished ones, oldest first."""
        stamps = self._folder.glob("[!.]*/saved-at")
        return [stamp.parent.name for stamp in sorted(stamps, key=lambda stamp: stamp.read_text())]

    def delete(self, name: str) -> None:
        """Forget `name`; no error where there is none."""
        shutil.rmtree(self.path(name), ignore_errors=True)
