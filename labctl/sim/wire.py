"""The network between the parts: requests with delays, watches that may lag, break or repeat themselves.

What a part asks of the API takes effect at one moment, some milliseconds after it was sent and before the answer
arrives; a part that dies or stands still in between has sent it all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from labctl.kube.client import Asked, Client, WatchEvent
from labctl.kube.errors import ApiError, Conflict, Unavailable
from labctl.kube.informer import Informer
from labctl.kube.resources import Resource
from labctl.runtime.chance import Generator
from labctl.sim.api import Api, Note, Request, prefix_of
from labctl.sim.hub import Hub, Process

_RETRY_S = 0.2
_GIVES_UP_S = 3.0  # on a server that does not answer: what the kernel takes to tell


@dataclass(slots=True)
class Line:
    """One part's connection to the API, and what is wrong with it now."""

    process: Process
    cut: bool = False  # nothing passes
    deaf: bool = False  # requests arrive, answers do not
    conflicts: int = 0  # so many writes are refused with 409
    lost: int = 0  # of so many writes the answer is lost
    doubt: bool = False  # something it wrote may have taken effect without its knowledge
    crash_in: int | None = None  # the process dies at its so-manieth write from now ...
    crash_after: bool = False  # ... after it was sent, not before
    lag_s: float = 0.0  # what watches are late by
    crash: Callable[[], None] = lambda: None
    feeds: list[Feed] = field(default_factory=list)


class Wire:
    """All connections."""

    def __init__(self, hub: Hub, api: Api, rng: Generator) -> None:
        self.hub, self.api, self._rng = hub, api, rng
        self.lines: dict[str, Line] = {}
        self._feeds: dict[str, list[Feed]] = {}  # by the prefix of their kind
        self.on_answer: Callable[[Line, Request, bytes | ApiError], None] = lambda _line, _request, _answer: None
        self.asking = ""  # whose request is being performed
        self.acknowledge: Callable[[Request, bytes], bytes | ApiError] = lambda _, answer: answer

    def line(self, process: Process, crash: Callable[[], None] = lambda: None) -> Line:
        """A process's connection."""
        return self.lines.setdefault(process.name, Line(process, crash=crash))

    def delay_s(self) -> float:
        """One way through the network."""
        return 0.0005 + 0.003 * self._rng.random()

    def wrote(self, note: Note) -> None:
        """A write has been stored: watches hear of it."""
        for feed in self._feeds.get(prefix_of(note.key), ()):
            feed.offer(note)

    def call(self, line: Line, request: Request, patience_s: float = _GIVES_UP_S) -> bytes:
        """Send, wait for the answer, no longer than `patience_s` where there is none."""
        if request.writes and line.crash_in is not None:
            line.crash_in -= 1
            if line.crash_in < 0:
                line.crash_in = None
                if not line.crash_after:
                    self.hub.after(0.0, line.crash)
                    line.process.sleep(1.0)  # never to return
                else:
                    self.hub.after(0.0, line.crash)  # what follows has been sent
        answer = line.process.ask(lambda done: self._send(line, request, patience_s, done))
        assert isinstance(answer, bytes)
        return answer

    def _send(self, line: Line, request: Request, patience_s: float, done: Callable[[Any], None]) -> None:
        if line.cut:
            self.hub.after(patience_s, lambda: done(_silence(request)))
            return
        if request.writes and line.conflicts > 0:
            line.conflicts -= 1
            refusal = Conflict("the object has been modified; please apply your changes to the latest version")
            self.hub.after(2 * self.delay_s(), lambda: done(refusal))
            return

        def arrive() -> None:
            self.asking = line.process.name
            answer = self.api.perform(request)
            self.on_answer(line, request, answer)
            self.asking = ""
            lost = line.deaf or line.cut
            if request.writes and line.lost > 0 and not isinstance(answer, ApiError):
                line.lost -= 1
                lost = True
            line.doubt |= request.writes and (lost or isinstance(answer, Unavailable))
            if lost:
                self.hub.after(patience_s, lambda: done(_silence(request)))
            else:
                self.hub.after(self.delay_s(), lambda: done(answer))

        self.hub.after(self.delay_s(), arrive)

    def follow(self, line: Line, informer: Informer[Any], resource: Resource, wanted: Wanted | None = None) -> Feed:
        """Keep an informer current over a line."""
        feed = Feed(self, line, informer, wanted)
        line.feeds.append(feed)
        prefix = f"/registry/{resource.group or 'core'}/{resource.plural}/"
        self._feeds.setdefault(prefix, []).append(feed)
        line.process.spawn(feed.run)
        return feed

    def unfollow(self, line: Line) -> None:
        """The process is gone, and its watches with it."""
        gone, line.feeds = set(map(id, line.feeds)), []
        for prefix, feeds in self._feeds.items():
            self._feeds[prefix] = [feed for feed in feeds if id(feed) not in gone]


Wanted = Callable[[Note], bool]


def _silence(request: Request) -> Unavailable:
    return Unavailable(f"{request.method} {request.target}: the API server does not answer")


class Feed:
    """One informer's watch: in order, without a gap, and late; broken off it begins with a list again."""

    def __init__(self, wire: Wire, line: Line, informer: Informer[Any], wanted: Wanted | None) -> None:
        self._wire, self._line, self._informer, self._wanted = wire, line, informer, wanted
        self._queue: deque[tuple[float, Note]] = deque()
        self._told: deque[Note] = deque(maxlen=3)
        self._following = self._scheduled = False
        self.held_until_s = 0.0

    def run(self) -> None:
        """List until that works; events follow by themselves."""
        while True:
            try:
                self._informer.relist()
                break
            except ApiError:
                self._line.process.sleep(_RETRY_S)
        self._queue.clear()
        self._following = True
        for note in self._wire.api.store.since(int(self._informer.revision)):
            if prefix_of(note.key) == self._prefix:
                self.offer(note)

    @property
    def _prefix(self) -> str:
        resource = self._informer.resource
        return f"/registry/{resource.group or 'core'}/{resource.plural}/"

    def expire(self) -> None:
        """The watch is too old: everything is listed again."""
        if self._following:
            self._following = False
            self._queue.clear()
            self._line.process.spawn(self.run)

    def repeat(self) -> None:
        """The last events come once more."""
        for note in self._told:
            self._queue.append((self._wire.hub.now_s, note))
        self._schedule()

    def offer(self, note: Note) -> None:
        """Something was written."""
        if self._following and (self._wanted is None or self._wanted(note)):
            due_s = self._wire.hub.now_s + self._wire.delay_s() + self._line.lag_s
            self._queue.append((due_s, note))
            self._schedule()

    def _schedule(self) -> None:
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._wire.hub.at(max(self._queue[0][0], self.held_until_s), self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if not self._following:
            return
        line, hub = self._line, self._wire.hub
        if line.cut or line.deaf or line.process.paused or not self._wire.api.up or hub.now_s < self.held_until_s:
            self.held_until_s = max(self.held_until_s, hub.now_s + _RETRY_S)
        while self._queue and max(self._queue[0][0], self.held_until_s) <= hub.now_s:
            note = self._queue.popleft()[1]
            self._told.append(note)
            self._informer.take(WatchEvent("DELETED" if note.gone else "MODIFIED", msgspec.Raw(note.raw)))
        line.process.poke()
        self._schedule()


class SimClient(Client):
    """A client whose requests travel on a line."""

    def __init__(self, wire: Wire, line: Line, guard: Callable[[], None] = lambda: None) -> None:
        self._wire, self._line, self._guard = wire, line, guard

    def _exchange(self, asked: Asked, timeout_s: float | None) -> bytes:
        """See `Client`."""
        request = Request(asked.method, asked.target, asked.data, asked.content_type, asked.accept)
        return self._wire.call(self._line, request, min(_GIVES_UP_S, timeout_s or _GIVES_UP_S))
