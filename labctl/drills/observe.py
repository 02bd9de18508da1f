"""Watching the API: every event of nodes, pods, endpoint slices and leases, with the time at which we received it.

Unlike an informer, which hands out states, this keeps each event, so that a history can be judged later; and
afterwards a second watch over the same revisions asks the server for its own account, to find events that never came.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from labctl.drills import views
from labctl.drills.aside import all_at_once
from labctl.drills.history import Recorder
from labctl.drills.records import (
    LEADERS,
    LISTED,
    Record,
    Replayed,
    Seen,
    StreamLost,
    StreamOpened,
    StreamResumed,
    key_of,
)
from labctl.drills.target import Api
from labctl.kube.errors import ApiError, Expired
from labctl.kube.resources import ENDPOINT_SLICES, LEASES, NODES, PODS, Resource
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Backoff, Stop

LEASE_NAMESPACE = "kube-node-lease"
_WATCH_S = 3_600
_REPLAY_S = 1


class Stream:
    """One resource, followed from a list onwards in a thread of its own."""

    def __init__(self, api: Api, resource: Resource, namespace: str, recorder: Recorder, clock: Clock) -> None:
        self.name = "leaders" if namespace == LEADERS else resource.plural  # as `stream_of` has it
        self._api, self._resource, self._namespace = api, resource, namespace
        self._recorder, self._clock = recorder, clock
        self._opened_rv = ""  # where this unbroken run of events began
        self._rv = ""  # how far it has come
        self._seen: list[str] = []  # "rv type key" since then
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Take the list that the watch goes on from; ApiError where that fails."""
        page = self._api.list(self._resource, self._namespace)
        now_s = self._clock.monotonic_s()
        self._rv = self._opened_rv = page.metadata.resource_version
        self._seen = []
        self._add(StreamOpened(stream=self.name, rv=self._rv, count=len(page.items)), now_s)
        for raw in page.items:
            self._add(views.read(self.name, LISTED, raw), now_s)

    def start(self, stop: Stop) -> None:
        """Follow until `stop`."""
        self._thread = threading.Thread(target=self._follow, args=(stop,), name=f"drill-{self.name}", daemon=True)
        self._thread.start()

    def _follow(self, stop: Stop) -> None:
        backoff = Backoff(base_s=0.05, cap_s=1.0)
        while not stop.is_set():
            try:
                if not self._rv:
                    self.open()
                self._watch(stop, backoff)
                why = "the server ended the watch"
            except Expired as error:
                self._add(StreamLost(stream=self.name, why=str(error)))
                self._rv = ""
                continue
            except (ApiError, msgspec.MsgspecError) as error:
                why = str(error)
                stop.wait_s(backoff.next_s())
            if not stop.is_set() and self._rv:
                self._add(StreamResumed(stream=self.name, rv=self._rv, why=why))

    def _watch(self, stop: Stop, backoff: Backoff) -> None:
        with self._api.watch(self._resource, self._namespace, resource_version=self._rv, timeout_s=_WATCH_S) as events:
            for event in events:
                now_s = self._clock.monotonic_s()
                if stop.is_set():
                    return
                backoff.reset()
                if event.type == "BOOKMARK":
                    self._rv = views.revision_of(event.object)
                    continue
                seen = views.read(self.name, event.type, event.object)
                self._add(seen, now_s)
                self._seen.append(_line(seen))
                self._rv = seen.rv

    def replay(self, deadline_s: float = 5.0) -> None:
        """Read the same revisions with a fresh watch and record what the server says happened in them.

        Waits up to `deadline_s` for our own stream to have received as much, since delivery takes time.
        """
        from_rv, to_rv, told, error = self._opened_rv, "", [], ""
        try:
            to_rv = self._api.list(self._resource, self._namespace).metadata.resource_version
            told = self._told(from_rv, to_rv)
        except (ApiError, msgspec.MsgspecError) as failure:
            error = str(failure)
        end_s = self._clock.monotonic_s() + deadline_s
        while set(told) - set(self._seen) and self._clock.monotonic_s() < end_s:
            self._clock.sleep_s(0.05)
        self._add(Replayed(stream=self.name, from_rv=from_rv, to_rv=to_rv, events=tuple(told), error=error))

    def _told(self, from_rv: str, to_rv: str) -> list[str]:
        told = []
        with self._api.watch(self._resource, self._namespace, resource_version=from_rv, timeout_s=_REPLAY_S) as events:
            for event in events:
                if event.type == "BOOKMARK":
                    if not _later(to_rv, views.revision_of(event.object)):
                        break  # everything up to `to_rv` has been sent
                    continue
                key, rv = views.identity_of(event.object)
                if _later(rv, to_rv):
                    break
                told.append(f"{rv} {event.type} {key}")
        return told

    def _add(self, what: Record, t_s: float | None = None) -> None:
        self._recorder.add(what, t_s=t_s)


class Observers:
    """All streams of a drill."""

    def __init__(self, api: Api, recorder: Recorder, clock: Clock) -> None:
        leases = ((LEASES, LEASE_NAMESPACE), (LEASES, LEADERS))
        followed = ((NODES, ""), (PODS, ""), (ENDPOINT_SLICES, ""), *leases)
        self._streams: Sequence[Stream] = [
            Stream(api, resource, namespace, recorder, clock) for resource, namespace in followed
        ]

    def start(self, stop: Stop) -> None:
        """Open every stream, then follow them until `stop`; ApiError where a first list fails."""
        for stream in self._streams:
            stream.open()
        for stream in self._streams:
            stream.start(stop)

    def replay(self) -> None:
        """See `Stream.replay`; all at once."""
        all_at_once(Stream.replay, self._streams)


def _line(seen: Seen) -> str:
    return f"{seen.rv} {seen.event} {key_of(seen)}"


def _later(left: str, right: str) -> bool:
    """Whether revision `left` comes after `right`; revisions are decimal numbers since Kubernetes 1.35 (KEP-5504)."""
    return int(left or 0) > int(right or 0)
