"""Observe, decide, carry out: woken by changes, never by a timer while nothing waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from labctl.kube.client import Client
from labctl.kube.events import Recorder
from labctl.kube.informer import Informer
from labctl.kube.resources import NODES, PODS
from labctl.runtime.clock import Clock
from labctl.runtime.discovery import discover
from labctl.runtime.loop import Backoff, Stop, Wake
from master.scheduler import plugins as catalog
from master.scheduler.around import Around
from master.scheduler.binder import Binder
from master.scheduler.cluster import Cluster
from master.scheduler.cycle import Placed, decide
from master.scheduler.protocol import Plugin
from master.scheduler.snapshot import PodInfo, Snapshot
from master.scheduler.state import State
from master.scheduler.views import Node, Pod, SpreadConstraint

_log = logging.getLogger(__name__)

_COALESCE_S = 0.01  # changes come in bursts
_UNCERTAIN_S = 2.0
_MOST_BACKOFFS = 10_000


def plugins() -> tuple[Plugin, ...]:
    """The catalog, filters in upstream's order."""
    return tuple(sorted(discover(catalog, "PLUGIN", Plugin).values(), key=lambda plugin: (plugin.order, plugin.name)))


class Scheduler:
    """One scheduler: informers, state, cycle, binder."""

    def __init__(
        self,
        client: Client,
        recorder: Recorder,
        clock: Clock,
        chosen: Sequence[Plugin] | None = None,
        *,
        default_constraints: tuple[SpreadConstraint, ...] | None = None,
        percentage: int = 0,
    ) -> None:
        """`chosen` plugins instead of the catalog's; the rest as `Config` has it."""
        self._clock, self._plugins = clock, plugins() if chosen is None else tuple(chosen)
        self.wake = Wake()
        self._pods = Informer(client, PODS, Pod, on_change=self.wake.ring, clock=clock)
        self._nodes = Informer(client, NODES, Node, on_change=self.wake.ring, clock=clock)
        self._around = Around(client, clock)
        self._pod_changes, self._node_changes = self._pods.changes(), self._nodes.changes()
        self._binder = Binder(client, recorder, clock, self._failed)
        self._state = State(plugins=self._plugins)
        self._default_constraints, self._percentage = default_constraints, percentage
        self._cluster: Cluster | None = None  # kept between cycles
        self._lock = threading.Lock()
        self._failures: list[tuple[float, PodInfo]] = []  # when to forget, and what
        self._backoffs: dict[str, Backoff] = {}  # by pod uid

    def start(self, stop: Stop) -> Scheduler:
        """Follow the API and schedule in threads of its own until `stop`."""
        for informer in (self._pods, self._nodes):
            informer.start(stop)
        self._around.start(stop)
        self._binder.start(stop)
        threading.Thread(target=self.run, args=(stop,), name="scheduler", daemon=True).start()
        return self

    def run(self, stop: Stop) -> None:
        """Cycle after cycle until `stop`."""
        every: tuple[Informer[Any], ...] = (self._pods, self._nodes, *self._around.informers)
        for informer in every:
            while not informer.wait_synced(stop):
                if stop.is_set():
                    return
        _log.info("started")
        trouble = Backoff(base_s=0.1, cap_s=5.0)
        while not stop.is_set():
            try:
                wait_s = self.run_pass()
                trouble.reset()
            except Exception:
                _log.exception("the cycle failed")
                wait_s = trouble.next_s()
                stop.wait_s(wait_s)
            if self.wake.wait_s(wait_s):
                stop.wait_s(_COALESCE_S)

    @property
    def binder(self) -> Binder:
        """Carries its decisions out."""
        return self._binder

    @property
    def informers(self) -> tuple[Informer[Any], ...]:
        """All that it follows."""
        return (self._pods, self._nodes, *self._around.informers)

    def run_pass(self) -> float:
        """Take in what changed, decide, hand over; seconds until a held pod is due."""
        now_s = self._clock.monotonic_s()
        next_s = self._take_failures(now_s)
        self._state.take_nodes(self._node_changes.take(), self._nodes.snapshot())
        self._state.take_pods(self._pod_changes.take(), self._pods.snapshot())
        snapshot = self._observe(now_s)
        if self._cluster is None:
            self._cluster = Cluster(snapshot)
        for decision in decide(snapshot, self._plugins, self._cluster):
            self._state.advance(decision.examined)
            if isinstance(decision, Placed):
                self._state.assume(decision.pod, decision.node)
            else:
                self._state.hold(decision.pod, now_s, decision.refused_by, decision.nominated)
            self._binder.put(decision)
        return 0.0 if snapshot.pending else min(next_s, self._state.wake_after_s(now_s))

    def _observe(self, now_s: float) -> Snapshot:
        seen = self._around.complete(self._state.snapshot(now_s))
        return replace(seen, default_spread=self._default_constraints, percentage=self._percentage)

    def _failed(self, info: PodInfo, uncertain: bool) -> None:
        """From the binder's threads. What may have taken effect stays counted until the API has had time to tell."""
        due_s = self._clock.monotonic_s() + (_UNCERTAIN_S if uncertain else 0.0)
        with self._lock:
            self._failures.append((due_s, info))
        self.wake.ring()

    def _take_failures(self, now_s: float) -> float:
        """Forget the bindings that failed; seconds until the next one is due."""
        with self._lock:
            due = [info for due_s, info in self._failures if due_s <= now_s]
            self._failures = [entry for entry in self._failures if entry[0] > now_s]
            next_s = min((due_s - now_s for due_s, _ in self._failures), default=3_600.0)
        if len(self._backoffs) > _MOST_BACKOFFS:
            self._backoffs.clear()
        for info in due:
            backoff = self._backoffs.setdefault(info.meta.uid, Backoff(base_s=0.2, cap_s=10.0))
            self._state.forget(info, now_s, backoff.next_s())
        return next_s
