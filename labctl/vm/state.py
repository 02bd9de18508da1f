"""A lab's folder: its topology, its lock, which phases are done. Private (0700) and written atomically."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from labctl.runtime.errors import LabError, UsageError
from labctl.vm.topology import Topology

T = TypeVar("T")


class LabBusy(LabError):
    """Somebody else works on the lab as a whole."""

    retryable = True


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by `data` in one step: a reader, or a crash, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_changed(path: Path, data: bytes) -> None:
    """Make `path` hold `data`; one that does is left alone."""
    if not path.exists() or path.read_bytes() != data:
        write_atomically(path, data)


class LabState:
    """`.labctl/<lab>/`. The topology is there before the first machine, so `destroy` always knows what to undo."""

    def __init__(self, state_root: Path, lab: str) -> None:
        self.lab = lab
        self.dir = state_root / lab

    @property
    def exists(self) -> bool:
        """Whether anything of this lab may exist."""
        return (self.dir / "topology.json").exists()

    def topology(self) -> Topology:
        """The lab's topology; UsageError where there is no such lab."""
        path = self.dir / "topology.json"
        if not path.exists():
            others = labs(self.dir.parent)
            hint = f"the labs here are: {', '.join(others)}" if others else "`labctl up` makes one"
            raise UsageError(f"there is no lab {self.lab!r}", hint=hint)
        return self._read(path, Topology)

    def save_topology(self, topology: Topology) -> None:
        """Keep the topology."""
        self.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.dir.chmod(0o700)
        write_atomically(self.dir / "topology.json", msgspec.json.format(msgspec.json.encode(topology), indent=2))

    def done(self) -> dict[str, str]:
        """Finished phases and the fingerprint of what each one worked from."""
        path = self.dir / "phases.json"
        return self._read(path, dict[str, str]) if path.exists() else {}

    def mark(self, phase: str, fingerprint: str) -> None:
        """Remember that `phase` is done for these inputs; an empty fingerprint forgets it."""
        phases = {**self.done(), phase: fingerprint}
        write_atomically(self.dir / "phases.json", msgspec.json.encode({k: v for k, v in phases.items() if v}))

    @contextlib.contextmanager
    def locked(self, doing: str) -> Iterator[None]:
        """Hold the lab for `doing` ("up", "destroy"); LabError says who has it. Ends with the process, however."""
        self.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.dir / "lock", "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip() or "another labctl"
                raise LabBusy(
                    f"lab {self.lab!r} is busy: {holder} is at work on it", hint="wait for it, or stop that process"
                ) from error
            file.seek(0)
            file.truncate()
            file.write(f"`labctl {doing}` (process {os.getpid()})")
            file.flush()
            yield

    def forget(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.dir, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.dir.parent.rmdir()  # only when it was the last lab

    def _read(self, path: Path, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except msgspec.MsgspecError as error:
            raise LabError(
                f"{path}: damaged: {error}",
                hint="restore the file, or remove the lab's folder after destroying its machines",
            ) from error


def labs(state_root: Path) -> list[str]:
    """The labs whose state is under `state_root`, by name."""
    return sorted(path.parent.name for path in state_root.glob("*/topology.json"))
