"""Reads a container's log as nerdctl's json-file driver writes it: JSON lines, `path` and its older parts `path.N`.

Source for the options: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#get-read-log
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

_BLOCK = 64 * 1024
_POLL_S = 0.2


class Entry(msgspec.Struct, frozen=True):
    """One line of output."""

    log: str = ""
    stream: str = "stdout"
    time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What of a log is wanted. `since`: aware UTC."""

    tail_lines: int | None = None
    since: datetime | None = None
    limit_bytes: int | None = None
    timestamps: bool = False
    follow: bool = False
    stream: str = "all"  # or stdout, stderr


_DECODER = msgspec.json.Decoder(Entry)


def parts(path: Path) -> list[Path]:
    """The files of a log, the oldest first: the driver numbers what it rotates upwards."""
    found = []
    for entry in path.parent.glob(f"{path.name}.*"):
        number = entry.name.removeprefix(f"{path.name}.")
        if number.isdigit():
            found.append((int(number), entry))
    return [*(entry for _, entry in sorted(found)), *([path] if path.exists() else [])]


def read(path: Path, options: Options, *, ended: Callable[[], bool], pause: Callable[[float], bool]) -> Iterator[bytes]:
    """The log's text in pieces; with `follow`, on until the container has ended.

    `pause(seconds)` waits and tells whether the reader has left; it is called while there is nothing new.
    """
    left = options.limit_bytes
    for piece in _pieces(path, options, ended, pause):
        if left is None:
            yield piece
            continue
        if left <= 0:
            return
        yield piece[:left]
        left -= len(piece)


def _pieces(path: Path, options: Options, ended: Callable[[], bool], pause: Callable[[float], bool]) -> Iterator[bytes]:
    files = parts(path)
    reader = Follower(path)
    if options.tail_lines is None:
        for file in files[:-1] if path in files else files:
            for line in _lines(file):
                yield from _text(line, options)
    else:
        lines, position = _tail(files, options.tail_lines)
        for line in lines:
            yield from _text(line, options)
        reader.skip(position)
    while True:
        over = not options.follow or ended()  # asked before the read: what was written before the end is read
        for line in reader.lines():
            yield from _text(line, options)
        if over or pause(_POLL_S):
            return


class Follower:
    """Reads whole lines from where it is, and goes on with the next file when the log was rotated."""

    @classmethod
    def from_now(cls, path: Path) -> Follower:
        """One that skips what is there already."""
        found = cls(path)
        if path.exists():
            size = path.stat().st_size
            found.skip(size - _unfinished(path, size))
        return found

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._rest = path, -1, b""
        self._skip = 0

    def skip(self, position: int) -> None:
        """Begin there in the current file."""
        self._skip = position

    def entries(self) -> Iterator[Entry]:
        """What is there now, decoded."""
        for line in self.lines():
            with contextlib.suppress(msgspec.MsgspecError):
                yield _DECODER.decode(line)

    def lines(self) -> Iterator[bytes]:
        """What is there now."""
        while self._file >= 0 or self._open():
            yield from self._drain()
            if not self._rotated():
                return
            yield from self._drain()  # written between our last read and the rotation
            os.close(self._file)
            self._file, self._rest = -1, b""

    def _open(self) -> bool:
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        os.lseek(self._file, self._skip, os.SEEK_SET)
        self._skip = 0
        return True

    def _drain(self) -> Iterator[bytes]:
        while block := os.read(self._file, _BLOCK):
            *whole, self._rest = (self._rest + block).split(b"\n")
            yield from whole

    def _rotated(self) -> bool:
        try:
            return os.stat(self._path).st_ino != os.fstat(self._file).st_ino
        except FileNotFoundError:
            return False

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def _tail(files: list[Path], count: int) -> tuple[list[bytes], int]:
    """The last `count` lines over all files, and how far the newest file was read."""
    found: list[bytes] = []
    position = 0
    for number, file in enumerate(reversed(files)):
        size = file.stat().st_size
        if number == 0:
            position = size - _unfinished(file, size)
        found = [*_last_lines(file, count - len(found), position if number == 0 else size), *found]
        if len(found) >= count:
            break
    return found[len(found) - count :] if count else [], position


def _unfinished(file: Path, size: int) -> int:
    """The length of a last line that is still being written."""
    with open(file, "rb") as handle:
        tail = b""
        at = size
        while at > 0 and b"\n" not in tail:
            step = min(_BLOCK, at)
            at -= step
            handle.seek(at)
            tail = handle.read(step) + tail
    return len(tail) - tail.rfind(b"\n") - 1


def _last_lines(file: Path, count: int, end: int) -> list[bytes]:
    """The last `count` lines before `end`, read backwards in blocks."""
    if count <= 0:
        return []
    data = b""
    with open(file, "rb") as handle:
        at = end
        while at > 0 and data.count(b"\n") <= count:
            step = min(_BLOCK, at)
            at -= step
            handle.seek(at)
            data = handle.read(step) + data
    lines = data.split(b"\n")[:-1]
    return lines[-count:]


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with open(file, "rb") as handle:
            yield from (line.rstrip(b"\n") for line in handle)
    except FileNotFoundError:
        return  # rotated away meanwhile


def _text(line: bytes, options: Options) -> Iterator[bytes]:
    if not line.strip():
        return
    try:
        entry = _DECODER.decode(line)
    except msgspec.MsgspecError:
        return  # cut off by a crash
    if options.stream not in {"all", entry.stream}:
        return
    if options.since is not None and entry.time and datetime.fromisoformat(entry.time) < options.since:
        return
    yield f"{entry.time} {entry.log}".encode() if options.timestamps else entry.log.encode()
