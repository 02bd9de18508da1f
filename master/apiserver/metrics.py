"""/metrics with upstream's names: requests, latencies, requests at work, watchers, etcd, stored objects, the process.

Source: apiserver `endpoints/metrics/metrics.go`, `storage/etcd3/metrics/metrics.go`. Labels hold only what is served:
a client cannot grow them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from labctl.kube.resources import Resource
from labctl.runtime.clock import Clock
from master.apiserver import process
from master.apiserver.limits import InFlight
from master.apiserver.prometheus import Histogram, family, head, labels
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply
from master.apiserver.request import Request

_VERBS = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE", "deletecollection": "DELETECOLLECTION",
}  # fmt: skip
_METHODS = frozenset({"get", "head", "post", "put", "patch", "delete", "options"})
_APPLY = "application/apply-patch"
_SERIES = ("component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version")
_WATCH = ("group", "kind", "version")
_ETCD = ("operation", "group", "resource")

Series = tuple[str, ...]


class Metrics:
    """Counts what happens."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.in_flight = InFlight()
        self._requests: Counter[tuple[Series, int]] = Counter()
        self._durations: dict[Series, Histogram] = {}
        self._terminations: Counter[tuple[Series, int]] = Counter()
        self._watchers: Counter[Series] = Counter()
        self._events: Counter[Series] = Counter()
        self._etcd: dict[Series, Histogram] = {}
        self._etcd_errors: Counter[Series] = Counter()

    def request(self, request: Request | None, kind: Kind | None, code: int, took_s: float) -> None:
        """One request was answered (a watch: began). `kind` is None where nothing is served at the path."""
        series = _series(request, kind)
        self._requests[series, code] += 1
        if code in {429, 504}:
            self._terminations[series, code] += 1
        if request is not None and request.verb == "watch":
            return
        found = self._durations.get(series)
        if found is None:
            found = self._durations[series] = Histogram()
        found.observe(took_s)

    def etcd(self, operation: str, key: str, took_s: float, failed: bool) -> None:
        """One call to etcd ended; its key, or prefix, names the resource."""
        _, _, group, resource, *_ = key.split("/", 4)
        series = (operation, "" if group == "core" else group, resource)
        found = self._etcd.get(series)
        if found is None:
            found = self._etcd[series] = Histogram()
        found.observe(took_s)
        if failed:
            self._etcd_errors[series] += 1

    def watching(self, resource: Resource, reply: Reply) -> Reply:
        """The reply, counted as a watcher for as long as it streams."""
        assert not isinstance(reply.body, bytes)
        reply.body = _Counted(self._watchers, _watch_of(resource), reply.body)
        return reply

    def sent(self, resource: Resource, events: int) -> None:
        """A watcher of `resource` was sent that many events."""
        self._events[_watch_of(resource)] += events

    def render(self, objects: Mapping[tuple[str, str], int]) -> bytes:
        """Everything, as text; `objects` is the number stored by (group, plural)."""
        lines: list[str] = []
        counted = {(code, *series): count for (series, code), count in self._requests.items()}
        cut = {(code, *series): count for (series, code), count in self._terminations.items()}
        names, at_work = ("code", *_SERIES), self.in_flight
        lines += family("apiserver_request_total", "counter", "Counter of apiserver requests.", names, counted)
        lines += _histograms(
            "apiserver_request_duration_seconds", "Response latency distribution in seconds.", _SERIES, self._durations
        )
        what = "Number of requests the apiserver terminated in self-defense."
        lines += family("apiserver_request_terminations_total", "counter", what, names, cut)
        what = "Number of requests now being executed, by kind."
        flying = {("mutating",): at_work.writes, ("readOnly",): at_work.reads}
        lines += family("apiserver_current_inflight_requests", "gauge", what, ("request_kind",), flying)
        long = {("apiserver", *key, "WATCH"): count for key, count in self._watchers.items()}
        what = "Gauge of all active long-running apiserver requests."
        lines += family(
            "apiserver_longrunning_requests", "gauge", what, ("component", "group", "kind", "version", "verb"), long
        )
        what = "Number of currently registered watchers for a given resource."
        lines += family("apiserver_registered_watchers", "gauge", what, _WATCH, dict(self._watchers))
        what = "Number of events sent in watch clients."
        lines += family("apiserver_watch_events_total", "counter", what, _WATCH, dict(self._events))
        lines += self._storage(objects)
        lines += process.lines()
        return ("\n".join(lines) + "\n").encode()

    def _storage(self, objects: Mapping[tuple[str, str], int]) -> list[str]:
        what = "Etcd request latency in seconds for each operation and object type."
        lines = _histograms("etcd_request_duration_seconds", what, _ETCD, self._etcd)
        what = "Etcd failed request counts for each operation and object type."
        lines += family("etcd_request_errors_total", "counter", what, _ETCD, dict(self._etcd_errors))
        what = "Number of stored objects at the time of last check split by kind."
        qualified = {(f"{plural}.{group}" if group else plural,): count for (group, plural), count in objects.items()}
        lines += family("apiserver_storage_objects", "gauge", what, ("resource",), qualified)
        return lines + family("apiserver_resource_objects", "gauge", what, ("group", "resource"), dict(objects))


def _series(request: Request | None, kind: Kind | None) -> Series:
    """The labels of a request, in the order of `_SERIES`."""
    if request is None:
        return ("apiserver", "", "", "", "", "", "other", "")
    if kind is None or request.target is None:
        verb = request.method.lower()
        return ("apiserver", "", "", "", "", "", verb.upper() if verb in _METHODS else "other", "")
    target, resource, verb = request.target, kind.resource, request.verb
    shown = _VERBS.get(verb, "other")
    if verb == "patch" and request.headers.get("content-type", "").startswith(_APPLY):
        shown = "APPLY"
    scope = "resource" if target.name or verb == "create" else "namespace" if target.namespace else "cluster"
    dry = "All" if "dryRun" in request.query else ""
    return ("apiserver", dry, resource.group, resource.plural, scope, target.subresource, shown, resource.version)


def _histograms(name: str, what: str, names: Iterable[str], found: Mapping[Series, Histogram]) -> list[str]:
    names = tuple(names)
    lines = head(name, "histogram", what)
    for series, histogram in sorted(found.items()):
        lines += histogram.lines(name, labels(names, series))
    return lines


def _watch_of(resource: Resource) -> Series:
    return resource.group, resource.kind, resource.version


class _Counted:
    """A stream that counts while it is open."""

    def __init__(self, watchers: Counter[Series], key: Series, body: Iterable[bytes]) -> None:
        self._watchers, self._key, self._body = watchers, key, body
        self._open = True
        watchers[key] += 1

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        finally:
            self.close()

    def close(self) -> None:
        """The server is done with the stream."""
        if self._open:
            self._open = False
            self._watchers[self._key] -= 1
        if (close := getattr(self._body, "close", None)) is not None:
            close()
