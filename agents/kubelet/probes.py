"""Liveness, readiness and startup probes: when each is due, what a run of results means, and the threads that ask.

`fold` and `verdict` are pure. The startup probe gates the other two. A container that an earlier kubelet called ready
stays ready until a probe says otherwise. Source: k/k `pkg/kubelet/prober/worker.go`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from agents.kubelet.checks import Checker, Result, Target
from agents.kubelet.seen import Verdict
from agents.kubelet.views import Container, Probe
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Stop, Wake

Kind = Literal["startup", "liveness", "readiness"]
_KINDS: tuple[Kind, ...] = ("startup", "liveness", "readiness")
_WORKERS = 4
_IDLE_S = 3600.0
# "While a container is not Ready, the ReadinessProbe may be executed at times other than the configured periodSeconds
# interval. This is to make the Pod ready faster." (k8s.io/docs, liveness-readiness-startup-probes) Exec costs too much.
_QUICK_S, _QUICK_CAP_S, _QUICK_FOR_S = 0.25, 1.0, 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """Results of one probe so far: `good` is its present answer (None: none yet), then how often in a row the last."""

    good: bool | None = None
    last: bool | None = None
    times: int = 0
    message: str = ""


def fold(run: Run, result: Result, probe: Probe) -> Run:
    """Take in one more result; the answer changes only at the probe's threshold."""
    times = run.times + 1 if run.last == result.ok else 1
    threshold = probe.success_threshold if result.ok else probe.failure_threshold
    good = result.ok if times >= threshold else run.good
    return Run(good, result.ok, times, result.message)


def probe_of(container: Container, kind: Kind) -> Probe | None:
    """The container's probe of that kind."""
    probes = {
        "startup": container.startup_probe,
        "liveness": container.liveness_probe,
        "readiness": container.readiness_probe,
    }
    return probes[kind]


def verdict(container: Container, runs: Mapping[Kind, Run], *, was_ready: bool = False) -> Verdict:
    """What the results mean for the container."""
    started = container.startup_probe is None or was_ready or runs.get("startup", Run()).good is True
    for kind in ("startup", "liveness"):
        probe = probe_of(container, kind)
        if probe is not None and runs.get(kind, Run()).good is False:
            own_s = probe.termination_grace_period_seconds
            words = f"Container {container.name} failed {kind} probe, will be restarted"
            return Verdict(started, False, words, None if own_s is None else float(own_s))
    if container.readiness_probe is None:
        return Verdict(started, started)
    good = runs.get("readiness", Run()).good
    return Verdict(started, started and (was_ready if good is None else good))


@dataclass(slots=True)
class _Watched:
    container: Container
    target: Target
    about: object  # handed back with failures, e.g. the pod
    since_s: float  # when it started, on our monotonic clock
    was_ready: bool
    runs: dict[Kind, Run]
    due_s: dict[Kind, float]
    flying: set[Kind]


@dataclass(frozen=True, slots=True)
class Job:
    """One probe that is due."""

    id: str
    kind: Kind
    probe: Probe
    target: Target


@dataclass(frozen=True, slots=True)
class Subject:
    """A running container with probes, as the kubelet sees it."""

    container: Container
    target: Target
    age_s: float
    was_ready: bool  # by the status the API has, of this very container
    about: object = None


OnFailure = Callable[[object, Container, Kind, str], None]


class Probes:
    """Holds the results of every probed container; `on_change` rings when a verdict may have changed."""

    def __init__(self, checker: Checker, clock: Clock, *, on_change: Callable[[], None], on_failure: OnFailure) -> None:
        self._checker, self._clock = checker, clock
        self._on_change, self._on_failure = on_change, on_failure
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._wake = Wake()

    def follow(self, subjects: Mapping[str, Subject]) -> None:
        """Probe exactly these containers, by id, from now on; results of those known already are kept."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            fresh = subjects.keys() - self._watched.keys()
            for gone in self._watched.keys() - subjects.keys():
                del self._watched[gone]
            for identity in fresh:
                subject = subjects[identity]
                since_s = now_s - max(0.0, subject.age_s)
                watched = _Watched(
                    subject.container, subject.target, subject.about, since_s, subject.was_ready, {}, {}, set()
                )
                for kind in _KINDS:
                    probe = probe_of(subject.container, kind)
                    if probe is not None and not (kind == "startup" and subject.was_ready):
                        watched.due_s[kind] = max(now_s, since_s + probe.initial_delay_seconds)
                self._watched[identity] = watched
        if fresh:
            self._wake.ring()

    def verdicts(self) -> dict[str, Verdict]:
        """What is known now, by container id."""
        with self._lock:
            return {
                identity: verdict(entry.container, entry.runs, was_ready=entry.was_ready)
                for identity, entry in self._watched.items()
            }

    def run_due(self, submit: Callable[[Job], None] | None = None) -> float:
        """Start every probe that is due (in this thread, without `submit`); seconds until the next."""
        jobs, wait_s = self._due()
        for job in jobs:
            (submit or self.run)(job)
        return 0.0 if jobs and submit is None else wait_s

    def run(self, job: Job) -> None:
        """Ask once and take the answer in."""
        result = self._checker.run(job.probe, job.target, timeout_s=float(max(1, job.probe.timeout_seconds)))
        failed: _Watched | None = None
        with self._lock:
            entry = self._watched.get(job.id)
            if entry is None:
                return
            before = verdict(entry.container, entry.runs, was_ready=entry.was_ready)
            entry.runs[job.kind] = fold(entry.runs.get(job.kind, Run()), result, job.probe)
            entry.flying.discard(job.kind)
            changed = verdict(entry.container, entry.runs, was_ready=entry.was_ready) != before
            failed = None if result.ok or _is_quick(entry, job.kind, job.probe, self._clock.monotonic_s()) else entry
        if failed is not None:
            self._on_failure(failed.about, failed.container, job.kind, result.message)
        self._wake.ring()
        if changed:
            self._on_change()

    def start(self, stop: Stop) -> None:
        """Probe in threads of our own until `stop`."""
        threading.Thread(target=self._loop, args=(stop,), name="probes", daemon=True).start()

    def _loop(self, stop: Stop) -> None:
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="probe") as pool:
            while not stop.is_set():
                self._wake.wait_s(self.run_due(lambda job: _submit(pool, self.run, job)))

    def _due(self) -> tuple[list[Job], float]:
        now_s = self._clock.monotonic_s()
        jobs: list[Job] = []
        wait_s = _IDLE_S
        with self._lock:
            for identity, entry in self._watched.items():
                for kind in _open_kinds(entry):
                    probe = probe_of(entry.container, kind)
                    if probe is None or kind in entry.flying:
                        continue
                    if entry.due_s[kind] <= now_s:
                        jobs.append(Job(identity, kind, probe, entry.target))
                        entry.flying.add(kind)
                        entry.due_s[kind] = now_s + _period_s(entry, kind, probe, now_s)
                    wait_s = min(wait_s, entry.due_s[kind] - now_s)
        return jobs, max(0.0, wait_s)


def _open_kinds(entry: _Watched) -> list[Kind]:
    """The probes to run now: startup alone until it succeeds; none once the container is condemned."""
    now = verdict(entry.container, entry.runs, was_ready=entry.was_ready)
    if now.condemned:
        return []
    wanted: tuple[Kind, ...] = ("liveness", "readiness") if now.started else ("startup",)
    return [kind for kind in wanted if kind in entry.due_s]


def _is_quick(entry: _Watched, kind: Kind, probe: Probe, now_s: float) -> bool:
    """Whether a young container that was never ready is asked more often than its period says."""
    fresh = now_s - entry.since_s < _QUICK_FOR_S and entry.runs.get(kind, Run()).good is not True
    return kind == "readiness" and probe.exec is None and fresh and not entry.was_ready


def _period_s(entry: _Watched, kind: Kind, probe: Probe, now_s: float) -> float:
    period_s = float(max(1, probe.period_seconds))
    if not _is_quick(entry, kind, probe, now_s):
        return period_s
    return min(period_s, _QUICK_CAP_S, _QUICK_S * 2.0 ** min(entry.runs.get(kind, Run()).times, 10))


def _submit(pool: ThreadPoolExecutor, run: Callable[[Job], None], job: Job) -> None:
    def guarded() -> None:
        try:
            run(job)
        except Exception:
            _log.exception("a %s probe crashed", job.kind)

    pool.submit(guarded)
