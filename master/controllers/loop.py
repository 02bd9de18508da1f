"""Observe, plan, apply, for every controller in a thread of its own; shared informers; no policy.

A controller that fails backs off alone. A plan's steps stand alone too: one that fails waits its own backoff while the
others go on. Everything is level-triggered: what a pass leaves undone, the next one plans again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from labctl.kube.client import Client
from labctl.kube.election import LeadershipLost
from labctl.kube.errors import AlreadyExists, ApiError, Conflict
from labctl.kube.events import Recorder
from labctl.kube.informer import Informer
from labctl.kube.meta import Reference
from labctl.kube.resources import Resource
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Backoff, Stop, Wake
from master.controllers.apply import Applier
from master.controllers.fence_client import nobody
from master.controllers.protocol import Controller, Failure, Kind, Settings, Step, World

_log = logging.getLogger(__name__)

_LONGEST_WAIT_S = 3_600.0
_SHARE, _LONGEST_PAUSE_S = 5.0, 0.25  # see `interval_s`
_APPLY_BUDGET_S = 1.0  # then look again: the world has moved on
_LATE_S = 10.0  # how long one kind that nobody waits for may hold up the next one


class Informers:
    """One informer per kind, shared by all who read it; a change rings everyone who wants it."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self.by_resource: dict[Resource, Informer[Any]] = {}
        self._bells: dict[Resource, list[Wake]] = {}
        self._late: list[Resource] = []
        self._told: dict[tuple[Resource, str], str] = {}
        self._lock = threading.Lock()

    def want(self, kind: Kind[Any], wake: Wake | None, *, late: bool = False) -> None:
        """Keep `kind`; ring `wake` when it changes. A second view of a kind changes nothing: the first one stays."""
        bells = self._bells.setdefault(kind.resource, [])
        if wake is not None:
            bells.append(wake)
        if kind.resource not in self.by_resource:

            def ring() -> None:
                for bell in bells:
                    bell.ring()

            self.by_resource[kind.resource] = Informer(
                self._client,
                kind.resource,
                kind.view,
                on_change=ring,
                namespace=kind.namespace,
                metadata_only=kind.metadata_only,
                clock=self._clock,
            )
            if late:
                self._late.append(kind.resource)

    def complaints(self) -> list[tuple[Reference, str]]:
        """Objects that do not fit their view, and why; each once."""
        found: list[tuple[Reference, str]] = []
        with self._lock:
            for resource, informer in self.by_resource.items():
                for key, why in dict(informer.unreadable).items() if informer.unreadable else ():
                    if self._told.get((resource, key)) != why:
                        self._told[resource, key] = why
                        namespace, _, name = key.rpartition("/")
                        found.append((_named(resource, namespace, name), why))
        return found

    def start(self, stop: Stop) -> None:
        """Follow everything; kinds wanted late come one by one after the others, so that a start does not stampede."""
        late = [self.by_resource[resource] for resource in self._late]
        early = [informer for resource, informer in self.by_resource.items() if resource not in self._late]
        for informer in early:
            informer.start(stop)

        def rest() -> None:
            for informer in early:
                informer.wait_synced(stop, _LATE_S)
            for informer in late:
                began_s = self._clock.monotonic_s()
                informer.start(stop).wait_synced(stop, _LATE_S)
                if stop.wait_s(self._clock.monotonic_s() - began_s):  # a slow server gets half of the time to itself
                    return

        threading.Thread(target=rest, name="late-informers", daemon=True).start()


@dataclass(slots=True)
class _Held:
    until_s: float
    backoff: Backoff = field(default_factory=lambda: Backoff(base_s=0.05, cap_s=10.0))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every runner of a process shares."""

    clock: Clock
    informers: Informers
    recorder: Recorder
    settings: Settings
    steady_since_s: Callable[[], float] = lambda: 0.0
    power_off: Callable[[str], str] = nobody


class Runner:
    """Runs one controller until told to stop."""

    def __init__(self, controller: Controller, client: Client, around: Surroundings) -> None:
        self.controller, self._around, self._clock = controller, around, around.clock
        self.wake = Wake()
        self._applier = Applier(client, around.recorder, around.informers.by_resource, around.power_off)
        self._memory = controller.memory
        self._held: dict[str, _Held] = {}
        self._failures: dict[str, Failure] = {}
        self._planned_s = 0.0  # what the last plan took
        self._trouble = Backoff(base_s=0.1, cap_s=5.0)
        self.kinds = [*controller.reads, *controller.quiet]
        for kind in controller.reads:
            around.informers.want(kind, self.wake)
        for kind in controller.quiet:
            around.informers.want(kind, None)

    def start(self, stop: Stop) -> Runner:
        """Run in a thread of its own."""
        threading.Thread(target=self.run, args=(stop,), name=self.controller.name, daemon=True).start()
        return self

    def run(self, stop: Stop) -> None:
        """Wait for the first lists, then pass after pass until `stop`."""
        for resource in self._resources():
            while not self._around.informers.by_resource[resource].wait_synced(stop):
                if stop.is_set():
                    return
        _log.info("started", extra={"kv": {"controller": self.controller.name}})
        while not stop.is_set():
            began_s = self._clock.monotonic_s()
            try:
                wait_s = self.run_pass(stop)
                self._trouble.reset()
            except LeadershipLost as error:  # for now, or for good: then `stop` follows
                _log.info("%s: %s", self.controller.name, error)
                wait_s = self._trouble.next_s()
                stop.wait_s(wait_s)
            except Exception:
                _log.exception("%s: the pass failed", self.controller.name)
                wait_s = self._trouble.next_s()
                stop.wait_s(wait_s)
            self._pause(stop, began_s, wait_s)

    def run_pass(self, stop: Stop) -> float:
        """Observe, plan, apply once; seconds until the next look, unless something changes before."""
        now_s = self._clock.monotonic_s()
        plan = self.controller.plan(self._observe(now_s), self._memory)
        self._planned_s = self._clock.monotonic_s() - now_s
        self._memory = plan.memory
        self._held = {key: held for key, held in self._held.items() if held.until_s > now_s - 60.0}
        for about, why in self._around.informers.complaints():
            self._around.recorder.warning(about, "FailedSync", f"cannot read this {about.kind}: {why}")
        known = dict(self._failures)
        acting = {step.about.uid for step in plan.steps if step.failure_reason}
        self._failures = {uid: failure for uid, failure in known.items() if uid in acting}
        end_s = now_s + _APPLY_BUDGET_S
        for number, step in enumerate(plan.steps):
            if stop.is_set():
                return 0.0
            if not self._is_held(step, now_s):
                self._try(step)
            if self._clock.monotonic_s() > end_s and number + 1 < len(plan.steps):
                return 0.0
        if self._failures != known:
            return 0.0  # the plan may want to say so
        waits = [held.until_s - now_s for held in self._held.values() if held.until_s > now_s]
        return max(0.0, min([plan.wake_after_s, _LONGEST_WAIT_S, *waits]))

    def _pause(self, stop: Stop, began_s: float, wait_s: float) -> None:
        self.wake.wait_s(min(wait_s, 1.0) if stop.is_set() else wait_s)
        pause_s = began_s + interval_s(self._planned_s, self.controller.min_interval_s) - self._clock.monotonic_s()
        if pause_s > 0:
            stop.wait_s(pause_s)

    def _resources(self) -> Iterable[Resource]:
        if self.controller.reads_everything:
            return list(self._around.informers.by_resource)
        return [kind.resource for kind in self.kinds]

    def _observe(self, now_s: float) -> World:
        informers = self._around.informers.by_resource
        return World(
            now_s=now_s,
            now=self._clock.now(),
            steady_since_s=self._around.steady_since_s(),
            settings=self._around.settings,
            objects={resource: informers[resource].snapshot() for resource in self._resources()},
            failures=dict(self._failures),
        )

    def _is_held(self, step: Step, now_s: float) -> bool:
        held = (self._held.get(key) for key in (_key(step), _kind_of(step)))
        return any(one is not None and one.until_s > now_s for one in held)

    def _try(self, step: Step) -> None:
        try:
            for action in step.actions:
                self._applier.perform(step, action)
        except ApiError as error:
            stale = isinstance(error, (Conflict, AlreadyExists))
            key = _key(step) if stale else _kind_of(step)  # what was planned from a stale view is all in doubt
            held = self._held.setdefault(key, _Held(0.0))
            held.until_s = self._clock.monotonic_s() + held.backoff.next_s()
            if stale:
                _log.debug("%s: %s: %s", self.controller.name, key, error)
                return
            _log.warning("%s: %s: %s", self.controller.name, key, error)
            if step.failure_reason:
                self._failures[step.about.uid] = Failure(step.failure_reason, str(error))
            self._applier.fail(step, error)
            return
        self._held.pop(_key(step), None)
        self._held.pop(_kind_of(step), None)


def interval_s(planned_s: float, least_s: float) -> float:
    """Between the starts of two passes: a plan over a large cluster is not made without a break while pods come and go.

    A fifth of the time at most goes into plans, but none waits longer than a quarter of a second.
    """
    return max(least_s, min(planned_s * _SHARE, _LONGEST_PAUSE_S))


def _named(resource: Resource, namespace: str, name: str) -> Reference:
    return Reference(api_version=resource.api_version, kind=resource.kind, namespace=namespace, name=name)


def _key(step: Step) -> str:
    about = step.about
    return f"{about.kind} {about.namespace}/{about.name} {about.uid}"


def _kind_of(step: Step) -> str:
    """Steps that would fail alike: where pods cannot be created the status is still written."""
    return f"{_key(step)} {step.failure_reason}"
