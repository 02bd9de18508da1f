"""Watches: JSON lines, bookmarks, initial events, 410 as an ERROR event. Each event's bytes are shared by all.

Source: Kubernetes API concepts, "Efficient detection of changes", "Streaming lists";
apiserver `endpoints/handlers/watch.go`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from labctl.kube.errors import ApiError, Unavailable
from labctl.kube.protobuf_encode import frame
from labctl.runtime.loop import jittered_s
from master.apiserver import problems
from master.apiserver.context import Context
from master.apiserver.negotiate import PROTOBUF, Form
from master.apiserver.read import revision_of
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, encoder, partial, served, served_document
from master.apiserver.request import Request
from master.apiserver.selection import selection
from master.apiserver.table import table
from master.apiserver.watchcache import CacheEvent, Watcher

Document = dict[str, Any]
Build = Callable[[CacheEvent], bytes]

_BOOKMARK_S = 60.0
_LAST_BOOKMARK_S = 2.0  # before the end
_ALIVE_S = 10.0  # an idle watch looks this often whether its client is still there
_LONGEST_S = 3600
_SHORTEST_S = 1800.0  # without timeoutSeconds a watch lasts between this and twice this
_WAIT_S = 3.0


def watch(context: Context, request: Request, kind: Kind, form: Form, told: Callable[[int], None]) -> Reply:
    """GET with `watch`: a stream that ends after `timeoutSeconds`; `told` is called with how many events went out."""
    assert request.target is not None
    seconds = request.number("timeoutSeconds")
    lasts_s = float(min(seconds, _LONGEST_S)) if seconds else jittered_s(_SHORTEST_S, 1.0)
    scope = kind.scope(request.target.namespace)
    initial, marked = _wants_initial(request)
    revision = revision_of(request)
    if revision is None and request.flag("sendInitialEvents"):
        cache = context.storage.current(kind)
    else:
        cache = context.storage.current(kind) if revision is None else context.storage.cache(kind)
        if revision:
            cache.wait_until(revision, deadline_s=_WAIT_S)
    after = None if initial or not revision else revision
    match = selection(request, kind)
    watcher = cache.watch(scope, after=after, initial=initial, match=match)
    bookmarks = request.flag("allowWatchBookmarks")
    stream = _Stream(context, kind, form, watcher, told, bookmarks=bookmarks, marked=marked, alive=request.alive)
    return Reply(stream.run(lasts_s), content_type=form.stream_type, headers={"Cache-Control": "no-cache, private"})


def _wants_initial(request: Request) -> tuple[bool, bool]:
    """Whether the present state comes first, and whether a bookmark says where it ends."""
    given, match = request.query.get("sendInitialEvents"), request.query.get("resourceVersionMatch", "")
    if given is None:
        if match:
            raise _forbidden_match("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
        return revision_of(request) in (None, 0), False
    if match != "NotOlderThan":
        raise _forbidden_match("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    wanted = request.flag("sendInitialEvents")
    return wanted, wanted and request.flag("allowWatchBookmarks")


def _forbidden_match(why: str) -> ApiError:
    field = "resourceVersionMatch" if why.startswith("resourceVersionMatch") else "sendInitialEvents"
    return problems.bad_option("ListOptions", problems.forbidden_field(field, why))


class _Stream:
    """The lines of one watch."""

    def __init__(
        self,
        context: Context,
        kind: Kind,
        form: Form,
        watcher: Watcher,
        told: Callable[[int], None],
        *,
        bookmarks: bool,
        marked: bool,
        alive: Callable[[], bool],
    ) -> None:
        self._context, self._kind, self._form = context, kind, form
        self._watcher, self._bookmarks, self._marked = watcher, bookmarks, marked
        self._alive, self._sent = alive, told
        self._headed = False  # a Table's columns come with the first event only

    def run(self, lasts_s: float) -> Iterator[bytes]:
        """Lines until the watch ends: by time, by the client, by the server, or by an error, which is the last line."""
        clock, stop = self._context.clock, self._context.stop
        ends_s = clock.monotonic_s() + lasts_s
        with self._watcher as watcher:
            try:
                yield from self._initial(watcher)
                bookmark_s = _next_bookmark_s(clock.monotonic_s(), ends_s)
                while not stop.is_set():
                    now_s = clock.monotonic_s()
                    if now_s >= ends_s:
                        return
                    if now_s >= bookmark_s:
                        bookmark_s = _next_bookmark_s(now_s, ends_s)
                        if self._bookmarks:
                            yield self._bookmark(watcher.revision)
                    events = watcher.take(max(0.0, min(ends_s, bookmark_s, now_s + _ALIVE_S) - now_s))
                    if not events and not self._alive():
                        return
                    yield from self._lines(events)
            except Unavailable:
                return  # the server ends: so does the stream, cleanly
            except ApiError as error:
                yield _told("ERROR", error.to_status(), self._form)

    def _initial(self, watcher: Watcher) -> Iterator[bytes]:
        batch: list[CacheEvent] = []
        for event in watcher.initial_events():
            batch.append(event)
            if len(batch) == 100:
                yield from self._lines(batch)
                batch = []
        yield from self._lines(batch)
        if self._marked:
            yield self._bookmark(watcher.initial_revision, {"k8s.io/initial-events-end": "true"})
        else:
            yield b""  # headers go out at once, even where nothing happens

    def _lines(self, events: list[CacheEvent]) -> Iterator[bytes]:
        if not events:
            return
        self._sent(len(events))
        form, kind = self._form, self._kind
        if form.transform == "Table" and not self._headed:
            self._headed = True
            yield _table_line(events[0], kind, form, headed=True)
            events = events[1:]
        name, build = _builder(kind, form)
        joined = b"".join([event.encoded(name, build) for event in events])
        if joined:
            yield joined

    def _bookmark(self, revision: int, annotations: Document | None = None) -> bytes:
        """An object of the kind with nothing but its resourceVersion."""
        metadata: Document = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        resource = self._kind.resource
        found: Document = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        if self._form.transform == "Table":
            row = {"cells": [], "object": partial(found, self._form)}
            version = f"meta.k8s.io/{self._form.version}"
            about = {"resourceVersion": str(revision)}
            found = {
                "kind": "Table",
                "apiVersion": version,
                "metadata": about,
                "columnDefinitions": None,
                "rows": [row],
            }
        elif self._form.transform:
            found = partial(found, self._form)
        return _told("BOOKMARK", found, self._form)


def _next_bookmark_s(now_s: float, ends_s: float) -> float:
    """Once a minute, and a last one shortly before the end. Source: apiserver `storage/cacher/cacher.go`."""
    last_s = ends_s - _LAST_BOOKMARK_S
    return min(now_s + _BOOKMARK_S, last_s if last_s > now_s else math.inf)


def _line(kind: str, raw: bytes) -> bytes:
    return b'{"type":"' + kind.encode() + b'","object":' + raw + b"}\n"


def _told(event: str, document: Document, form: Form) -> bytes:
    """One event of the stream: a line of JSON, or a frame of protobuf."""
    if form.media == PROTOBUF:
        return frame(event, encoder().object(document))
    return _line(event, msgspec.json.encode(document))


def _builder(kind: Kind, form: Form) -> tuple[str, Build]:
    """The name of a form of events and how one is encoded; watchers of the same form share the bytes."""
    name = f"{kind.resource.api_version}/{form.media}/{form.transform}/{form.version}"
    if not form.transform:
        if form.media == PROTOBUF:
            return name, lambda event: _told(event.type, served_document(event.object.document, kind), form)
        return name, lambda event: _line(event.type, served(event.object.raw, kind))
    if form.transform == "Table":
        return name, lambda event: _table_line(event, kind, form, headed=False)
    return name, lambda event: _told(event.type, partial(event.object.document, form), form)


def _table_line(event: CacheEvent, kind: Kind, form: Form, *, headed: bool) -> bytes:
    document = event.object.document
    metadata = {"resourceVersion": document["metadata"].get("resourceVersion", "")}
    return _line(event.type, msgspec.json.encode(table(kind, [document], metadata, form, headed=headed)))
