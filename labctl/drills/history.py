"""The record of a drill: JSON lines, appended to disk as things happen, readable after any crash.

A line is written with one system call, so a killed process leaves at most one torn line, at the end.
Records that a recovery depends on are flushed to the disk itself (`durable`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, overload

import msgspec

from labctl.drills.records import Entry, Record
from labctl.runtime.clock import Clock, rfc3339_micro
from labctl.runtime.errors import LabError

NAME = "history.jsonl"

R = TypeVar("R")

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Entry)


class History(Sequence[Entry]):
    """Entries in the order of writing; a frozen view that the pure functions read."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...

    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        return self._entries[index]

    def of(self, kind: type[R]) -> Iterator[tuple[float, R]]:
        """Every (time, record) of one kind, in order."""
        for entry in self._entries:
            if isinstance(entry.what, kind):
                yield entry.t_s, entry.what

    def first(self, kind: type[R]) -> tuple[float, R] | None:
        """The earliest record of a kind."""
        return next(self.of(kind), None)

    def last(self, kind: type[R]) -> tuple[float, R] | None:
        """The latest record of a kind."""
        found = None
        for found in self.of(kind):  # noqa: B007 - the last one is what is wanted
            pass
        return found


class Recorder:
    """Appends entries to a file and keeps them in memory. Safe to share between threads.

    A disk that fails or fills up does not end the drill (the heal must still run): `trouble` then says
    what happened, memory goes on, and the verdict cannot be a pass.
    """

    def __init__(self, path: Path, clock: Clock, on_entry: Callable[[Entry], None] = lambda _: None) -> None:
        self.path, self._clock, self._on_entry = path, clock, on_entry
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self.trouble = ""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _drop_torn_line(self._file)
        except OSError as error:
            raise LabError(f"{path}: {error.strerror}", hint="the drill's record must be writable") from error

    def add(self, what: Record, *, t_s: float | None = None, durable: bool = False) -> Entry:
        """Append; the time is now unless the caller noted it (`t_s`) when it happened."""
        wall = rfc3339_micro(self._clock.now())
        with self._lock:
            entry = Entry(self._clock.monotonic_s() if t_s is None else t_s, wall, what)
            self._entries.append(entry)
            self._write(_encode(entry) + b"\n", durable)
        self._on_entry(entry)
        return entry

    def _write(self, line: bytes, durable: bool) -> None:
        if self.trouble or self._file < 0:
            return
        try:
            if os.write(self._file, line) != len(line):
                self.trouble = "the disk took only part of a record: it is full"
            elif durable:
                os.fsync(self._file)
        except OSError as error:
            self.trouble = f"the record could not be written: {error.strerror}"

    def history(self) -> History:
        """Everything so far."""
        with self._lock:
            return History(self._entries)

    def close(self) -> None:
        """Flush and close the file; the entries stay readable."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


def _drop_torn_line(file: int) -> None:
    """Cut what a killed writer left behind the last whole line."""
    size = os.fstat(file).st_size
    tail = os.pread(file, 65_536, max(0, size - 65_536))
    torn = len(tail) - (tail.rfind(b"\n") + 1)
    if torn:
        os.ftruncate(file, size - torn)


def load(path: Path) -> History:
    """Read a history; a torn last line is dropped, any other damage is a LabError that names the line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from error
    entries = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            entries.append(_decoder.decode(line))
        except msgspec.MsgspecError as error:
            if number == len(lines):  # no newline after it: the writer died in the middle
                break
            raise LabError(f"{path}, line {number}: not a drill's record: {error}") from error
    return History(entries)
