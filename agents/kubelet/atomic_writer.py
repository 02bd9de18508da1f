"""Writes a volume's files so that a reader sees all of the old ones or all of the new ones.

The files lie in a folder with a time for a name; `..data` is a symlink to it, swapped by a rename; what users see are
symlinks through `..data`. Watchers rely on exactly this shape. Source: k/k `pkg/volume/util/atomic_writer.go`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

from agents.kubelet.payload import Payload

_DATA, _NEW_DATA = "..data", "..data_tmp"


def write(target: Path, payload: Payload, *, now: datetime, group: int | None = None) -> bool:
    """Make `target` hold exactly `payload`; False, and nothing is touched, where it does already.

    With `group` (a pod's fsGroup) files belong to it and it may read them.
    """
    target.mkdir(parents=True, exist_ok=True)
    target.chmod(0o755)
    if _current(target) == {path: (file.content, _mode(file.mode, group)) for path, file in payload.items()}:
        return False
    fresh = Path(tempfile.mkdtemp(prefix=now.strftime("..%Y_%m_%d_%H_%M_%S."), dir=target))
    fresh.chmod(0o755)
    for path, file in payload.items():
        place = fresh / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
        if group is not None:
            os.chown(place, -1, group)
        place.chmod(_mode(file.mode, group))
    swap = target / _NEW_DATA
    swap.unlink(missing_ok=True)
    swap.symlink_to(fresh.name)
    swap.rename(target / _DATA)
    tops = {path.partition("/")[0] for path in payload}
    _link(target, tops)
    for entry in target.iterdir():
        if entry.name in {fresh.name, _DATA}:
            continue
        if entry.name.startswith("..") and entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.is_symlink() and entry.name not in tops:
            entry.unlink()
    return True


def is_written(target: Path) -> bool:
    """Whether a payload was ever written there in full."""
    return (target / _DATA).exists()


def _link(target: Path, tops: set[str]) -> None:
    for top in tops:
        link = target / top
        if not link.is_symlink():
            link.symlink_to(f"{_DATA}/{top}")


def _mode(mode: int, group: int | None) -> int:
    return mode if group is None else mode | 0o040


def _current(target: Path) -> dict[str, tuple[bytes, int]] | None:
    data = target / _DATA
    if not data.exists():
        return None
    files = (path for path in sorted(data.rglob("*")) if path.is_file())
    found = {str(path.relative_to(data)): (path.read_bytes(), path.stat().st_mode & 0o7777) for path in files}
    return found if all((target / path.partition("/")[0]).is_symlink() for path in found) else None
