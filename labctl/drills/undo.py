"""The undo of a fault: actions as data (`actions.py`), written to disk before the fault, applied by whoever survives.

`undo.json` lies in the lab's drills folder, one for the whole lab, since there is one drill at a time. It is replaced
atomically and flushed, so it is either the old list or the new one. Applying is idempotent, in reverse order.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from labctl.drills.actions import Action
from labctl.drills.target import Reopen, Target
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Backoff

NAME = "undo.json"


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """What is still to be undone, by whom it was left, and how to reach the lab."""

    drill: str
    run_dir: str
    runner_pid: int
    reopen: Reopen
    heal_by_s: float  # on the monotonic clock of this boot: past it the dead-man heals even if the runner lives
    heals: tuple[Action, ...] = ()  # undo the faults
    cleanups: tuple[Action, ...] = ()  # remove what the drill deployed


def replaced(pending: Pending, *, heals: tuple[Action, ...]) -> Pending:
    """The same, with other heals."""
    return msgspec.structs.replace(pending, heals=heals)


_decoder = msgspec.json.Decoder(Pending)


def save(folder: Path, pending: Pending) -> None:
    """Replace the pending undo, flushed to the disk before this returns."""
    draft = folder / f".{NAME}.{os.getpid()}"
    try:
        with open(draft, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(msgspec.json.format(msgspec.json.encode(pending)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, folder / NAME)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise LabError(
            f"{folder / NAME}: {error.strerror}", hint="no fault is injected before its undo is on disk"
        ) from error


def load(folder: Path) -> Pending | None:
    """What is pending, or None; LabError where the file cannot be read."""
    try:
        return _decoder.decode((folder / NAME).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise LabError(
            f"{folder / NAME}: {error}", hint="check each machine's power by hand, then remove the file"
        ) from error


def clear(folder: Path) -> None:
    """Nothing is pending any more, nor half written by somebody who died over it."""
    for draft in folder.glob(f".{NAME}.*"):
        draft.unlink(missing_ok=True)
    (folder / NAME).unlink(missing_ok=True)


def apply_all(
    actions: tuple[Action, ...], target: Target, clock: Clock, *, deadline_s: float
) -> tuple[bool, tuple[str, ...]]:
    """Apply in reverse order, and again what failed until `deadline_s` is over; (all done, a sentence for each).

    One that fails does not keep the others from being applied, nor from their share of the time.
    """
    end_s = clock.monotonic_s() + deadline_s
    backoff = Backoff(base_s=0.2, cap_s=5.0)
    left, said = tuple(reversed(actions)), list[str]()
    while True:
        failed: dict[Action, LabError] = {}
        for action in left:
            try:
                said.append(action.apply(target, clock))
            except LabError as error:
                failed[action] = error
        if not failed or clock.monotonic_s() >= end_s:
            return not failed, (*said, *(f"{action.text}: failed: {error}" for action, error in failed.items()))
        left = tuple(failed)
        clock.sleep_s(min(backoff.next_s(), max(0.0, end_s - clock.monotonic_s())))
