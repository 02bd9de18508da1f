"""The cache of built things: made once, whole or not at all, by one builder at a time; dropped when nobody needs them.

An item is `<kind>-<key>` under the cache folder, where the key is a hash of everything it is made from.
A lab that goes on using an item holds it (`hold`), so that a newer version does not sweep it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from labctl.runtime.errors import LabError

_KEY_LENGTH = 16


def key_of(*parts: bytes) -> str:
    """The key of what is made from `parts`."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:_KEY_LENGTH]


def cached(cache_dir: Path, kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The item, built by `build(path)` if it is not there; other versions that no lab holds are removed then.

    `build` makes a folder or file at the path it is given; a failure or a crash leaves no item.
    """
    item = cache_dir / f"{kind}-{key}"
    if item.exists():
        return item
    _make_reachable(cache_dir)
    with locked(cache_dir, kind):
        if item.exists():  # another builder was faster
            return item
        for leftover in cache_dir.glob(f".{kind}-*"):
            _remove(leftover)
        temporary = cache_dir / f".{kind}-{key}"
        try:
            build(temporary)
            temporary.rename(item)
        finally:
            _remove(temporary)
        _prune(cache_dir, kind, keep=item)
    return item


def hold(item: Path, state_dir: Path) -> None:
    """Keep `item` for as long as the lab's folder `state_dir` exists."""
    folder = item.parent / "held" / item.name
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:_KEY_LENGTH]
    (folder / name).write_text(f"{state_dir.resolve()}\n")


@contextlib.contextmanager
def locked(cache_dir: Path, kind: str) -> Iterator[None]:
    """Be the only one who builds or removes items of this kind; waits for its turn."""
    with open(cache_dir / f".lock-{kind}", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prune(cache_dir: Path, kind: str, keep: Path) -> None:
    for item in cache_dir.glob(f"{kind}-*"):
        if item != keep and not _held(item):
            _remove(item)
            _remove(cache_dir / "held" / item.name)


def _held(item: Path) -> bool:
    folder = item.parent / "held" / item.name
    return any(Path(note.read_text().strip()).exists() for note in folder.glob("*"))


def _make_reachable(cache_dir: Path) -> None:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise LabError(f"cannot make the cache folder {cache_dir}: {error}", hint="set LABCTL_CACHE_DIR") from error
    if not os.access(cache_dir, os.W_OK):
        raise LabError(
            f"cannot write to the cache folder {cache_dir}", hint="run labctl with sudo, or set LABCTL_CACHE_DIR"
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
