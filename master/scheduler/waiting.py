"""Pods that were tried and did not fit: when are they tried again? No clock, no network.

A pod waits for a change that could help one of the plugins that refused it, and is tried at the latest after five
minutes. Each try in vain doubles the pause before the next, from 1 s to 10 s; while nothing else waits to be scheduled,
a pod that was woken is not made to sit its pause out. Source: k/k `pkg/scheduler/backend/queue` (scheduling_queue.go,
backoff_queue.go; SchedulerPopFromBackoffQ).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from master.scheduler.changes import Change, NodeMoved
from master.scheduler.protocol import Plugin
from master.scheduler.snapshot import PodInfo, rank

_FIRST_S, _LONGEST_S = 1.0, 10.0
_FLUSH_S = 300.0


@dataclass(slots=True)
class _Held:
    info: PodInfo
    refused_by: frozenset[str]
    pause_ends_s: float
    flush_s: float
    woken: bool = False
    failed: bool = False  # its binding failed: the pause is sat out


class Waiting:
    """Held pods by uid. Used by one thread."""

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self._plugins: Mapping[str, Plugin] = {plugin.name: plugin for plugin in plugins}
        self._held: dict[str, _Held] = {}
        self._tries: dict[str, int] = {}

    def hold(self, info: PodInfo, now_s: float, refused_by: frozenset[str]) -> None:
        """It fitted nowhere."""
        uid = info.meta.uid
        self._tries[uid] = tries = self._tries.get(uid, 0) + 1
        pause_s = min(_LONGEST_S, _FIRST_S * 2.0 ** min(tries - 1, 10))
        self._held[uid] = _Held(info, refused_by, now_s + pause_s, now_s + _FLUSH_S)

    def failed(self, info: PodInfo, now_s: float, delay_s: float) -> None:
        """Its binding did not come about."""
        end_s = now_s + delay_s
        self._held[info.meta.uid] = _Held(info, frozenset(), end_s, end_s, woken=True, failed=True)

    def changed(self, uid: str) -> None:
        """The pod itself is another: it may fit now."""
        if (held := self._held.get(uid)) is not None:
            held.woken = True

    def gone(self, uid: str) -> None:
        """It is bound, or no more."""
        self._held.pop(uid, None)
        self._tries.pop(uid, None)

    def happened(self, changes: Sequence[Change]) -> None:
        """Wake the pods that these changes could help."""
        told: dict[tuple[bytes, frozenset[str]], bool] = {}  # pods of one kin, refused alike, are told alike
        for held in self._held.values():
            if held.woken or not changes:
                continue
            key = (held.info.kin, held.refused_by)
            if key not in told:
                told[key] = any(self._helps(held, change) for change in changes)
            held.woken = told[key]

    def ready(self, pending: Iterable[PodInfo], now_s: float, most: int) -> list[PodInfo]:
        """Those to try now, at most so many, the first in the queue's order; they are no longer held."""
        fresh: list[PodInfo] = []
        early: list[PodInfo] = []
        for info in pending:
            held = self._held.get(info.meta.uid)
            if held is None or ((held.woken or held.flush_s <= now_s) and held.pause_ends_s <= now_s):
                fresh.append(info)
            elif held.woken and not held.failed:
                early.append(info)
        chosen = heapq.nsmallest(most, fresh or early, key=rank)
        for info in chosen:
            self._held.pop(info.meta.uid, None)
        return chosen

    def wake_after_s(self, now_s: float) -> float:
        """Until the next pod is due by time alone."""
        waits = (held.pause_ends_s if held.woken else held.flush_s for held in self._held.values())
        return max(0.0, min(waits, default=now_s + 3_600.0) - now_s)

    def _helps(self, held: _Held, change: Change) -> bool:
        if not held.refused_by:  # there was no node at all
            return isinstance(change, NodeMoved) and change.new is not None
        plugins = (self._plugins.get(name) for name in held.refused_by)
        return any(plugin is None or plugin.hint(held.info, change) for plugin in plugins)
