"""/metrics in Prometheus' text format, with upstream's names: requests, latencies, watchers, memory."""

from __future__ import annotations

import resource as process
from collections import Counter
from collections.abc import Iterable, Iterator

from labctl.kube.resources import Resource
from labctl.runtime.clock import Clock
from master.apiserver.reply import Reply

_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_VERBS = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE", "deletecollection": "DELETECOLLECTION",
}  # fmt: skip


class Metrics:
    """Counts what happens."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requests: Counter[tuple[str, str, str, int]] = Counter()
        self._durations: dict[str, list[int]] = {}
        self._totals: dict[str, float] = {}
        self._watchers: Counter[tuple[str, str, str]] = Counter()

    def request(self, verb: str, plural: str, subresource: str, code: int, took_s: float) -> None:
        """One request was answered (a watch: began)."""
        shown = _VERBS.get(verb, "other") if plural else verb.upper()
        self._requests[shown, plural, subresource, code] += 1
        if verb == "watch":
            return
        counts = self._durations.setdefault(shown, [0] * (len(_BUCKETS) + 1))
        place = next((at for at, bound in enumerate(_BUCKETS) if took_s <= bound), len(_BUCKETS))
        counts[place] += 1
        self._totals[shown] = self._totals.get(shown, 0.0) + took_s

    def watching(self, resource: Resource, reply: Reply) -> Reply:
        """The reply, counted as a watcher for as long as it streams."""
        assert not isinstance(reply.body, bytes)
        reply.body = _Counted(self._watchers, (resource.group, resource.version, resource.kind), reply.body)
        return reply

    def render(self) -> bytes:
        """Everything, as text."""
        lines = [
            "# HELP apiserver_request_total Counter of apiserver requests.",
            "# TYPE apiserver_request_total counter",
        ]
        for (verb, plural, subresource, code), count in sorted(self._requests.items()):
            labels = f'code="{code}",resource="{plural}",subresource="{subresource}",verb="{verb}"'
            lines.append(f"apiserver_request_total{{{labels}}} {count}")
        lines += [
            "# HELP apiserver_request_duration_seconds Response latency distribution in seconds.",
            "# TYPE apiserver_request_duration_seconds histogram",
        ]
        for verb, counts in sorted(self._durations.items()):
            lines += _histogram(verb, counts, self._totals[verb])
        lines += [
            "# HELP apiserver_longrunning_requests Gauge of all active long-running apiserver requests.",
            "# TYPE apiserver_longrunning_requests gauge",
        ]
        for (group, version, kind), count in sorted(self._watchers.items()):
            labels = f'group="{group}",kind="{kind}",verb="WATCH",version="{version}"'
            lines.append(f"apiserver_longrunning_requests{{{labels}}} {count}")
        usage = process.getrusage(process.RUSAGE_SELF)
        lines += [
            "# TYPE process_cpu_seconds_total counter",
            f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime:.2f}",
            "# TYPE process_max_resident_memory_bytes gauge",
            f"process_max_resident_memory_bytes {usage.ru_maxrss * 1024}",
        ]
        return ("\n".join(lines) + "\n").encode()


def _histogram(verb: str, counts: list[int], total_s: float) -> Iterator[str]:
    name, running = "apiserver_request_duration_seconds", 0
    for bound, count in zip((*_BUCKETS, "+Inf"), counts, strict=True):
        running += count
        yield f'{name}_bucket{{verb="{verb}",le="{bound}"}} {running}'
    yield f'{name}_sum{{verb="{verb}"}} {total_s:.6f}'
    yield f'{name}_count{{verb="{verb}"}} {running}'


class _Counted:
    """A stream that counts while it is open."""

    def __init__(
        self, counter: Counter[tuple[str, str, str]], key: tuple[str, str, str], body: Iterable[bytes]
    ) -> None:
        self._counter, self._key, self._body = counter, key, body
        self._open = True
        counter[key] += 1

    def __iter__(self) -> Iterator[bytes]:
        yield from self._body

    def close(self) -> None:
        """The server is done with the stream."""
        if self._open:
            self._open = False
            self._counter[self._key] -= 1
        if (close := getattr(self._body, "close", None)) is not None:
            close()
