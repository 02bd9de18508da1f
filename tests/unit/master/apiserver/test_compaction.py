"""The store's history is bounded in time."""

from __future__ import annotations

import threading

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop, wait_for
from master.apiserver import compaction
from master.store.memory import MemoryStore
from master.store.protocol import Compacted


def test_what_is_older_than_an_interval_is_forgotten_and_what_is_newer_is_kept() -> None:
    store, stop = MemoryStore(SystemClock()), Stop()
    old = store.create("/registry/a", b"1")
    worker = threading.Thread(target=compaction.run, args=(store, stop), kwargs={"interval_s": 0.05})
    worker.start()
    newer = store.update("/registry/a", b"2", expected=old)

    def forgotten() -> bool:
        try:
            store.list("/registry/", revision=old)
        except Compacted:
            return True
        return False

    wait_for(forgotten, what="the compaction", deadline_s=10, clock=SystemClock(), every_s=0.01)
    stop.set()
    worker.join(10)
    assert not worker.is_alive()
    assert [entry.revision for entry in store.list("/registry/").entries] == [newer]


def test_a_store_that_is_away_is_tried_again() -> None:
    store, stop = MemoryStore(SystemClock()), Stop()
    store.close()
    worker = threading.Thread(target=compaction.run, args=(store, stop), kwargs={"interval_s": 0.01})
    worker.start()
    stop.wait_s(0.05)
    assert worker.is_alive()
    stop.set()
    worker.join(10)
    assert not worker.is_alive()
