"""The Lease that keeps two hosts from running a drill on one cluster at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from labctl.drills import lease
from labctl.drills.lease import NAME, NAMESPACE, Release, Renewals, Taken, claim, held
from labctl.kube.errors import Document, Forbidden, NotFound
from labctl.kube.resources import LEASES, NAMESPACES, Resource
from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.errors import UsageError
from labctl.runtime.loop import Stop, wait_for
from tests.unit.labctl.drills.drill_fakes import FakeApi

OURS, THEIRS = "here_1_aa", "host2_4711_bb"
WHERE = f"{NAMESPACE}/{NAME}"


class Api(FakeApi):
    """Knows that a namespace must be there, and who may not write."""

    def __init__(self, *, may: bool = True) -> None:
        super().__init__()
        self._may = may

    def create(self, resource: Resource, body: object, namespace: str = "") -> Document:
        if not self._may:
            raise Forbidden('leases is forbidden: User "jane" cannot create')
        if namespace and namespace not in self.names(NAMESPACES):
            raise NotFound(f"namespaces {namespace!r} not found")
        return super().create(resource, body, namespace)

    @property
    def holder(self) -> str:
        return str(self.get(LEASES, NAME, NAMESPACE)["spec"]["holderIdentity"])


class Meanwhile(FakeClock):
    """A clock on which something happens while one sleeps."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act = act

    def sleep_s(self, seconds: float) -> None:
        super().sleep_s(seconds)
        self._act()


@dataclass
class Lab:
    client: Any


def renew(api: Api) -> None:
    api.patch(LEASES, NAME, {"spec": {"leaseTransitions": 9}}, NAMESPACE)


def test_the_lease_and_its_namespace_are_made_and_taken_away_again() -> None:
    api, clock = Api(), FakeClock()
    claim(api, OURS, "two-workers", clock)
    assert (api.names(LEASES), api.holder) == ([WHERE], OURS)
    assert Release(OURS).apply(Lab(api), clock).endswith("done")  # type: ignore[arg-type]
    assert (api.names(LEASES), api.names(NAMESPACES)) == ([], [])
    assert Release(OURS).apply(Lab(api), clock)  # type: ignore[arg-type]


def test_a_second_drill_is_refused_and_told_who_runs_and_until_when() -> None:
    api, clock = Api(), FakeClock()
    claim(api, THEIRS, "two-workers", clock)
    with pytest.raises(Taken) as caught:
        claim(api, OURS, "slow-network", clock)
    told = (
        "a drill is already running on this cluster: two-workers, by host2, process 4711, until 00:03:00 UTC at least"
    )
    assert (str(caught.value), caught.value.exit_code) == (told, 2)
    assert held(api, clock) == told
    assert "not ours" in Release(OURS).apply(Lab(api), clock)  # type: ignore[arg-type]
    assert api.holder == THEIRS


def test_one_whose_time_is_over_and_that_stands_still_is_taken_over() -> None:
    api, clock = Api(), FakeClock()
    claim(api, THEIRS, "two-workers", clock)
    clock.advance(lease.DURATION_S + 1)
    assert held(api, clock) == ""
    before_s = clock.monotonic_s()
    claim(api, OURS, "slow-network", clock)
    assert clock.monotonic_s() - before_s > 2 * lease.RENEW_S
    found = api.get(LEASES, NAME, NAMESPACE)
    assert (found["spec"]["holderIdentity"], found["spec"]["leaseTransitions"]) == (OURS, 1)
    assert found["metadata"]["annotations"] == {lease.DRILL: "slow-network"}


def test_one_that_is_renewed_is_not_taken_over_whatever_its_stamps_say() -> None:
    api = Api()
    claim(api, THEIRS, "two-workers", FakeClock())
    ahead = Meanwhile(lambda: renew(api))
    ahead.advance(lease.DURATION_S + 1)
    with pytest.raises(Taken) as caught:
        claim(api, OURS, "slow-network", ahead)
    assert "set the clocks" in caught.value.hint
    assert api.holder == THEIRS


def test_a_namespace_that_somebody_made_for_it_stays() -> None:
    api, clock = Api(), FakeClock()
    api.put(NAMESPACES, {"metadata": {"name": NAMESPACE}})
    claim(api, OURS, "two-workers", clock)
    Release(OURS).apply(Lab(api), clock)  # type: ignore[arg-type]
    assert (api.names(LEASES), api.names(NAMESPACES)) == ([], [NAMESPACE])


def test_without_the_right_to_a_lease_one_line_says_so() -> None:
    with pytest.raises(UsageError, match="no right to take the Lease labctl-drill-lock/labctl-drill") as caught:
        claim(Api(may=False), OURS, "two-workers", FakeClock())
    assert "namespace labctl-drill-lock" in caught.value.hint


def test_a_holder_renews_and_hears_of_its_loss() -> None:
    api, clock, stop = Api(), SystemClock(), Stop()
    claim(api, OURS, "two-workers", clock)
    heard, lost = threading.Event(), list[str]()

    def on_loss(words: str) -> None:
        lost.append(words)
        heard.set()

    first = api.get(LEASES, NAME, NAMESPACE)["spec"]["renewTime"]
    Renewals(api, OURS, clock, renew_s=0.05).start(stop, on_loss)
    wait_for(
        lambda: api.get(LEASES, NAME, NAMESPACE)["spec"]["renewTime"] > first,
        what="a renewal", deadline_s=30.0, clock=clock,
    )  # fmt: skip
    assert not lost
    api.patch(LEASES, NAME, {"spec": {"holderIdentity": THEIRS}}, NAMESPACE)
    assert heard.wait(30.0)
    assert "host2, process 4711" in lost[0]
    assert api.holder == THEIRS
