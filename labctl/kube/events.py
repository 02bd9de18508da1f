"""Events that users read with `kubectl describe`: deduplicated, rate-bounded, never in their caller's way.

Like upstream's recorder (client-go `tools/record/events_cache.go`): the same event again raises `count`; more than ten
that differ only in their message become one "(combined from similar events)"; an object gets 25 at once, then one
every five minutes. Where the API server is slow or away, events are dropped, never their caller's time.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from labctl.kube.client import Client
from labctl.kube.errors import AlreadyExists, Conflict, Document, NotFound
from labctl.kube.meta import Reference
from labctl.kube.resources import EVENTS
from labctl.runtime.clock import Clock, rfc3339
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Backoff, Stop, Wake

EventType = Literal["Normal", "Warning"]

_log = logging.getLogger(__name__)

_QUEUE = 1_000  # events waiting; the oldest goes first
_REMEMBERED = 4_096  # events and objects kept apart
_SIMILAR = 10  # as upstream's defaultAggregateMaxEvents
_SIMILAR_WITHIN_S = 600.0
_BURST = 25.0  # as upstream's defaultSpamBurst
_REFILL_PER_S = 1 / 300
_MESSAGE_BYTES = 1_024  # the API's limit for `message`
_TRIES = 4


class Happening(NamedTuple):
    """Something to tell about an object."""

    about: Reference
    type: EventType
    reason: str
    message: str


class Recorder:
    """Writes Events as `component` (and `host`). Safe to share between threads; `event` never blocks or raises."""

    def __init__(self, client: Client, component: str, *, clock: Clock, host: str = "") -> None:
        self._client, self._clock = client, clock
        self._correlator = Correlator(component, host)
        self._waiting: deque[Happening] = deque(maxlen=_QUEUE)
        self._lock = threading.Lock()
        self._wake = Wake()

    def start(self, stop: Stop) -> Recorder:
        """Write in a thread of its own until `stop`; events told before are kept until then."""
        threading.Thread(target=self._run, args=(stop,), name="events", daemon=True).start()
        return self

    def event(self, about: Reference, kind: EventType, reason: str, message: str) -> None:
        """Tell that `reason` happened to `about`."""
        with self._lock:
            self._waiting.append(Happening(about, kind, reason, message))
        self._wake.ring()

    def normal(self, about: Reference, reason: str, message: str) -> None:
        """Tell of something that is as it should be."""
        self.event(about, "Normal", reason, message)

    def warning(self, about: Reference, reason: str, message: str) -> None:
        """Tell of something that a person may have to look at."""
        self.event(about, "Warning", reason, message)

    def flush(self) -> None:
        """Write what waits, now, in the caller's thread; for tests and the simulation."""
        while (happening := self._take()) is not None:
            self._write(happening, None)

    def _take(self) -> Happening | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _run(self, stop: Stop) -> None:
        while not stop.is_set():
            happening = self._take()
            if happening is None:
                self._wake.wait_s(1.0)
            else:
                self._write(happening, stop)

    def _write(self, happening: Happening, stop: Stop | None) -> None:
        write = self._correlator.take(happening, self._clock.monotonic_s(), self._clock.now())
        backoff = Backoff(base_s=0.2, cap_s=5.0)
        for _ in range(_TRIES):
            if write is None:
                return
            try:
                self._send(write)
                return
            except LabError as error:
                if not error.retryable or stop is None or stop.wait_s(backoff.next_s()):
                    _log.debug("an event was lost: %s", error)
                    return
            except Exception:
                _log.exception("an event was lost")
                return

    def _send(self, write: Write) -> None:
        namespace = write.body["metadata"]["namespace"]
        if not write.first:
            change = {key: write.body[key] for key in ("count", "message", "lastTimestamp")}
            try:
                self._client.patch(EVENTS, write.name, change, namespace)
                return
            except (NotFound, Conflict):
                pass  # it expired meanwhile: write it anew
        with contextlib.suppress(AlreadyExists):  # an earlier try took effect after all
            self._client.create(EVENTS, write.body, namespace)


@dataclass(frozen=True, slots=True)
class Write:
    """An Event to create (`first`), or one whose count goes up."""

    name: str
    first: bool
    body: Document


@dataclass(slots=True)
class _Seen:
    name: str
    first: str
    count: int = 0


@dataclass(slots=True)
class _Similar:
    since_s: float
    messages: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Correlator:
    """Turns happenings into writes: counts repeats, combines look-alikes, holds back floods. No clock, no network."""

    def __init__(self, component: str, host: str = "") -> None:
        self._component, self._host = component, host
        self._seen: OrderedDict[Happening, _Seen] = OrderedDict()
        self._similar: OrderedDict[Happening, _Similar] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()
        self._last_ns = 0

    def take(self, happening: Happening, now_s: float, now: datetime) -> Write | None:
        """What to write for `happening`; None where its object has had too many."""
        happening = _trimmed(happening)
        if not self._allowed(happening, now_s):
            return None
        key = self._combined(happening, now_s)
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(f"{happening.about.name}.{self._stamp(now):x}", rfc3339(now))
        self._seen.move_to_end(key)
        _forget(self._seen)
        seen.count += 1
        message = happening.message if key.message else f"(combined from similar events): {happening.message}"
        body = self._body(happening, seen, message[:_MESSAGE_BYTES], rfc3339(now))
        return Write(seen.name, seen.count == 1, body)

    def _allowed(self, happening: Happening, now_s: float) -> bool:
        about = happening.about
        key = (about.kind, about.namespace, about.name, about.uid)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(_BURST, now_s)
        self._buckets.move_to_end(key)
        _forget(self._buckets)
        bucket.tokens = min(_BURST, bucket.tokens + (now_s - bucket.at_s) * _REFILL_PER_S)
        bucket.at_s = now_s
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _combined(self, happening: Happening, now_s: float) -> Happening:
        """The key to count under: the happening itself, or without its message once there are too many alike."""
        group = happening._replace(message="")
        similar = self._similar.get(group)
        if similar is None or now_s - similar.since_s > _SIMILAR_WITHIN_S:
            similar = self._similar[group] = _Similar(now_s)
        similar.since_s = now_s
        self._similar.move_to_end(group)
        _forget(self._similar)
        similar.messages.add(happening.message)
        if len(similar.messages) < _SIMILAR:
            return happening
        similar.messages.pop()  # stays at the limit, does not grow
        return group

    def _stamp(self, now: datetime) -> int:
        """Nanoseconds for a name; never the same twice."""
        self._last_ns = max(self._last_ns + 1, int(now.timestamp() * 1_000_000) * 1_000)
        return self._last_ns

    def _body(self, happening: Happening, seen: _Seen, message: str, now: str) -> Document:
        about = happening.about
        source = {"component": self._component} | ({"host": self._host} if self._host else {})
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": seen.name, "namespace": about.namespace or "default"},
            "involvedObject": about,
            "reason": happening.reason,
            "message": message,
            "source": source,
            "type": happening.type,
            "firstTimestamp": seen.first,
            "lastTimestamp": now,
            "count": seen.count,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }


def _trimmed(happening: Happening) -> Happening:
    """Without the resourceVersion, which tells no two happenings apart, and within the API's limit."""
    about = happening.about
    if about.resource_version:
        about = Reference(
            api_version=about.api_version,
            kind=about.kind,
            name=about.name,
            namespace=about.namespace,
            uid=about.uid,
            field_path=about.field_path,
        )
    return happening._replace(about=about, message=happening.message[:_MESSAGE_BYTES] or happening.reason)


def _forget(kept: OrderedDict[object, object] | OrderedDict) -> None:  # type: ignore[type-arg]
    while len(kept) > _REMEMBERED:
        kept.popitem(last=False)
