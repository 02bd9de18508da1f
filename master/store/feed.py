"""One etcd watch over the whole key space, followed across cuts and published to a fan-out.

The whole key space, because then every revision passes by: where the stream stands is known without asking etcd for
its progress, which the gateway cannot do over plain HTTP, and one stream serves every resource.
"""

from __future__ import annotations

import logging
import threading

import msgspec

from labctl.runtime.clock import Clock
from labctl.runtime.loop import Backoff
from master.store.calls import Calls
from master.store.connection import Stream
from master.store.fanout import Fanout
from master.store.gateway import Gateway
from master.store.messages import Event, WatchCreate, Watched, WatchRequest, WatchResponse
from master.store.protocol import Change, Compacted, Refused, StoreError

_log = logging.getLogger(__name__)
_DECODER = msgspec.json.Decoder(Watched, strict=False)
_EVERYTHING = b"\x00"  # as key and as range_end: the whole key space
_TICK_S, _ASK_AFTER_S, _ASK_S, _BEHIND_S = 1.0, 5.0, 5.0, 3.0


class Feed:
    """Follows etcd from revision `after` on in a thread of its own, until closed, or ended by an error.

    `fanout.error` tells of the end: Compacted, or StoreError once etcd could not be reached for `give_up_s`.
    """

    def __init__(self, gateway: Gateway, calls: Calls, clock: Clock, after: int, *, give_up_s: float = 30.0) -> None:
        self.fanout = Fanout(after)
        self._gateway, self._calls, self._clock, self._give_up_s = gateway, calls, clock, give_up_s
        self._closed = threading.Event()
        self._events: list[Event] = []  # fragments of a response whose rest is still to come
        self._heard_s = clock.monotonic_s()
        self._behind_since_s: float | None = None
        threading.Thread(target=self._run, name="etcd-watch", daemon=True).start()

    def close(self) -> None:
        """End the watches that hang on this feed."""
        self._closed.set()
        self.fanout.end(StoreError("the store was closed"))

    def _run(self) -> None:
        backoff = Backoff(base_s=0.05, cap_s=2.0)
        while not self._closed.is_set():
            try:
                stream = self._open()
                try:
                    while not self._closed.is_set():
                        self._step(stream)
                        backoff.reset()
                finally:
                    stream.close()
            except Compacted as error:
                self.fanout.end(error)
                return
            except StoreError as error:
                silent_s = self._clock.monotonic_s() - self._heard_s
                _log.info("the watch of etcd ended; connecting again", extra={"kv": {"error": error}})
                if silent_s >= self._give_up_s:
                    self.fanout.end(StoreError(f"etcd could not be watched for {silent_s:.0f} s: {error}"))
                    return
                self._closed.wait(backoff.next_s())
            except Exception as error:
                _log.exception("the watch of etcd failed")
                self.fanout.end(StoreError(f"the watch of etcd failed: {error!r}"))
                return

    def _open(self) -> Stream:
        """Ask from the last known revision on, so that etcd refuses one that it has compacted; it is dropped below."""
        self._events, self._behind_since_s = [], None
        create = WatchCreate(_EVERYTHING, _EVERYTHING, max(1, self.fanout.revision))
        return self._gateway.stream("/v3/watch", msgspec.json.encode(WatchRequest(create)))

    def _step(self, stream: Stream) -> None:
        if self._gateway.strayed(stream.url):
            raise StoreError("the member on this machine answers again")
        lines = stream.lines(_TICK_S)
        now_s = self._clock.monotonic_s()
        for line in lines:
            self._heard_s = now_s
            watched = _DECODER.decode(line)
            if watched.result is None:
                raise StoreError(f"etcd: {watched.error.message if watched.error else 'a line without a meaning'}")
            self._take(watched.result)
        if lines:
            self._behind_since_s = None
        else:
            self._check(stream, now_s)

    def _take(self, response: WatchResponse) -> None:
        if response.compact_revision:
            oldest = response.compact_revision
            raise Compacted(f"the changes after revision {self.fanout.revision} were compacted away", oldest)
        if response.canceled:
            raise StoreError(f"etcd cancelled the watch: {response.cancel_reason or 'no reason given'}")
        if response.created:
            if response.header.revision < self.fanout.revision:
                self._refuse_the_past()
            return
        self._events += response.events
        if response.fragment:
            return
        done = self.fanout.revision
        changes = [_change(event) for event in self._events if event.kv.mod_revision > done]
        self._events = []
        if changes:
            self.fanout.publish(changes, changes[-1].revision)

    def _refuse_the_past(self) -> None:
        """The member knows less than we do: it lags, or the cluster was restored from a backup: start anew."""
        revision = self._calls.revision()
        if revision < self.fanout.revision:
            self._calls.newest = revision
            raise Compacted(f"etcd went back to revision {revision} from {self.fanout.revision}", revision)

    def _check(self, stream: Stream, now_s: float) -> None:
        """Silence: is there news elsewhere that this stream does not tell? Then its member is cut off or frozen."""
        if now_s - self._heard_s >= _ASK_AFTER_S:
            self._heard_s = now_s
            try:
                self._calls.revision(deadline_s=_ASK_S)
            except Refused:
                raise
            except StoreError as error:
                _log.info("etcd does not answer", extra={"kv": {"error": error}})
                return
        if self._calls.newest <= self.fanout.revision:
            self._behind_since_s = None
        elif self._behind_since_s is None:
            self._behind_since_s = now_s
        elif now_s - self._behind_since_s >= _BEHIND_S:
            self._gateway.avoid(stream.url)
            raise StoreError(f"etcd at {stream.url} stopped telling changes")


def _change(event: Event) -> Change:
    key = event.kv.key.decode(errors="replace")
    value = None if event.type == "DELETE" else event.kv.value
    return Change(key, event.kv.mod_revision, value, event.prev_kv.value if event.prev_kv else None)
