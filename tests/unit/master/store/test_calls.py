"""The store's current revision, asked for by many at once: who shares whose answer, and who waits for whom."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from master.store.calls import Calls
from master.store.gateway import Gateway

CLOCK = SystemClock()


class SlowGateway:
    """Counts calls; each answers with its number as the revision, once it is let go."""

    def __init__(self, held: set[int]) -> None:
        self.held, self.release = held, threading.Event()
        self.calls = 0
        self._lock = threading.Lock()

    def yield_now(self) -> None:
        pass

    def call(self, path: str, body: bytes, *, deadline_s: float = 0.0) -> tuple[bytes, bool]:
        del path, body, deadline_s
        with self._lock:
            self.calls += 1
            number = self.calls
        if number in self.held:
            assert self.release.wait(20)
        return b'{"header":{"revision":"%d"}}' % number, False


def under_way(gateway: SlowGateway, calls: int) -> None:
    wait_for(lambda: gateway.calls >= calls, what=f"{calls} calls", deadline_s=10, clock=CLOCK, every_s=0.01)


def test_a_request_that_hangs_does_not_hold_up_the_next_caller() -> None:
    gateway = SlowGateway({1})
    calls = Calls(cast(Gateway, gateway), patience_s=0.05)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(calls.revision)
        under_way(gateway, 1)
        assert calls.revision() == 2
        gateway.release.set()
        assert hanging.result(10) == 1


def test_an_answer_asked_for_before_a_caller_came_is_not_given_to_it() -> None:
    gateway = SlowGateway({1})
    calls = Calls(cast(Gateway, gateway), patience_s=10)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(calls.revision)
        under_way(gateway, 1)
        later = [pool.submit(calls.revision) for _ in range(8)]
        gateway.release.set()
        assert first.result(10) == 1
        assert all(one.result(10) >= 2 for one in later)


def test_one_that_landed_late_does_not_replace_a_newer_answer() -> None:
    gateway = SlowGateway({1})
    calls = Calls(cast(Gateway, gateway), patience_s=0.05)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(calls.revision)
        under_way(gateway, 1)
        calls.revision()
        gateway.release.set()
        late.result(10)
    assert calls.revision() == 3
