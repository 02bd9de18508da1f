from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from labctl.kube.client import Client
from labctl.kube.election import Election, Identity, LeadershipLost
from labctl.kube.errors import AlreadyExists, Conflict, Document, NotFound, Unavailable
from labctl.kube.resources import Resource
from labctl.kube.timing import FAST
from labctl.runtime.clock import FakeClock
from labctl.runtime.loop import Stop


class LeaseApi:
    """One Lease with optimistic concurrency; `down` makes every request fail."""

    def __init__(self) -> None:
        self.lease: Document | None = None
        self.version, self.down, self.requests = 0, False, 0

    def _enter(self) -> None:
        self.requests += 1
        if self.down:
            raise Unavailable("down")

    def get(self, resource: Resource, name: str, namespace: str = "") -> Document:
        self._enter()
        if self.lease is None:
            raise NotFound(name)
        return self.lease

    def create(self, resource: Resource, body: Document, namespace: str = "") -> Document:
        self._enter()
        if self.lease is not None:
            raise AlreadyExists(body["metadata"]["name"])
        return self.put(body["spec"])

    def patch(self, resource: Resource, name: str, body: Document, namespace: str = "") -> Document:
        self._enter()
        if self.lease is None:
            raise NotFound(name)
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict(name)
        return self.put({**self.lease["spec"], **body["spec"]})

    def put(self, spec: Document) -> Document:
        self.version += 1
        self.lease = {"metadata": {"resourceVersion": str(self.version)}, "spec": spec}
        return self.lease

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


def candidate(api: LeaseApi, name: str, clock: FakeClock) -> Election:
    return Election(cast(Client, api), "kube-scheduler", name, profile=FAST, clock=clock)


def test_the_first_candidate_leads_at_once_and_renews_in_one_request() -> None:
    api, clock = LeaseApi(), FakeClock()
    one = candidate(api, "one", clock)
    assert one._try()
    assert one.held()
    before = api.requests
    assert one._try()
    assert (api.requests - before, api.holder) == (1, "one")


def test_a_standby_waits_until_it_has_seen_the_lease_stand_still_for_its_duration() -> None:
    api, clock = LeaseApi(), FakeClock()
    one, two = candidate(api, "one", clock), candidate(api, "two", clock)
    one._try()
    clock.advance(3.0)
    assert not two._try()  # first look: from here on it counts, whatever the stamps say
    clock.advance(3.9)
    assert not two._try()
    clock.advance(0.2)
    assert two._try()
    assert api.holder == "two"
    assert api.lease is not None
    assert api.lease["spec"]["leaseTransitions"] == 1


def test_a_renewal_starts_the_standby_s_wait_anew() -> None:
    api, clock = LeaseApi(), FakeClock()
    one, two = candidate(api, "one", clock), candidate(api, "two", clock)
    one._try()
    two._try()
    for _ in range(10):
        clock.advance(2.0)
        assert one._try()
        assert not two._try()


def test_two_never_hold_at_once_whatever_the_moment_of_the_freeze() -> None:
    for frozen_s in (0.5, 1.0, 2.5, 3.5, 4.5, 9.0):
        api, clock = LeaseApi(), FakeClock()
        one, two = candidate(api, "one", clock), candidate(api, "two", clock)
        one._try()
        for turn in range(40):  # the frozen one does not run; the standby looks every retry
            two._try()
            assert not (one.held() and two.held())
            clock.advance(0.5)
            if turn * 0.5 == frozen_s:
                one._leading = one._leading and (one._try() or one.held())


def test_a_leader_that_cannot_renew_stops_before_another_may_start() -> None:
    api, clock = LeaseApi(), FakeClock()
    one = candidate(api, "one", clock)
    one._try()
    clock.advance(FAST.leader_renew_deadline_s)
    assert not one.held()
    with pytest.raises(LeadershipLost):
        one.guard()
    assert FAST.leader_renew_deadline_s < FAST.leader_lease_s


def test_a_restart_under_the_same_name_leads_at_once() -> None:
    api, clock = LeaseApi(), FakeClock()
    candidate(api, "one", clock)._try()
    assert candidate(api, "one", clock)._try()


def test_a_conflicting_write_by_someone_else_does_not_lose_the_lead_by_itself() -> None:
    api, clock = LeaseApi(), FakeClock()
    one = candidate(api, "one", clock)
    one._try()
    assert api.lease is not None
    api.put({**api.lease["spec"], "note": "kubectl annotate"})
    assert one._try()
    assert one.held()


def test_a_lease_that_another_took_is_lost() -> None:
    api, clock = LeaseApi(), FakeClock()
    one = candidate(api, "one", clock)
    one._try()
    assert api.lease is not None
    api.put({**api.lease["spec"], "holderIdentity": "two"})
    assert not one._try()


def test_steadiness_begins_anew_after_a_gap_in_our_own_renewals() -> None:
    api, clock = LeaseApi(), FakeClock()
    one = candidate(api, "one", clock)
    one._try()
    since_s = one.steady_since_s()
    clock.advance(1.0)
    one._try()
    assert one.steady_since_s() == since_s
    clock.advance(2.5)  # more than two renewals are missing
    assert one.steady_since_s() == clock.monotonic_s()
    one._try()
    assert one.steady_since_s() == clock.monotonic_s()


class Turns(Stop):
    """A stop that lets a number of turns pass, and moves the clock in each."""

    def __init__(self, clock: FakeClock, turns: int, on_turn: dict[int, Any]) -> None:
        super().__init__()
        self._clock, self._left, self._on_turn, self._turn = clock, turns, on_turn, 0

    def wait_s(self, seconds: float) -> bool:
        self._turn += 1
        self._on_turn.get(self._turn, lambda: None)()
        self._clock.advance(seconds)
        return self._turn > self._left


def test_a_leader_that_is_told_to_stop_lets_the_next_one_in_at_once() -> None:
    api, clock = LeaseApi(), FakeClock()
    one, two = candidate(api, "one", clock), candidate(api, "two", clock)
    heard: list[str] = []
    one.run(Turns(clock, 3, {}), lambda: heard.append("lead"), lambda: heard.append("loss"))
    assert heard == ["lead"]
    assert two._try()


def cut_off(meanwhile: Any) -> tuple[list[str], list[bool]]:
    """A leader whose API is away from its 3rd to its 30th turn; `meanwhile` happens before that ends."""
    api, clock = LeaseApi(), FakeClock()
    one = candidate(api, "one", clock)
    heard: list[str] = []
    held: list[bool] = []

    def away(down: bool) -> None:
        held.append(one.held())
        api.down = down

    turns = {3: lambda: away(True), 29: lambda: meanwhile(api), 30: lambda: away(False), 40: lambda: away(False)}
    one.run(Turns(clock, 40, turns), lambda: heard.append("lead"), lambda: heard.append("loss"))
    return heard, held


def test_a_leader_cut_off_from_the_api_stops_writing_and_goes_on_where_nobody_else_led_meanwhile() -> None:
    assert cut_off(lambda api: None) == (["lead"], [True, False, True])


def test_a_leader_cut_off_from_the_api_has_lost_where_another_leads_when_it_comes_back() -> None:
    def taken(api: LeaseApi) -> None:
        assert api.lease is not None
        api.put({**api.lease["spec"], "holderIdentity": "two"})

    assert cut_off(taken) == (["lead", "loss"], [True, False])


def test_an_identity_is_held_by_one_process_and_free_again_when_it_ends() -> None:
    first = Identity("test", "host-a", "1")
    second = Identity("test", "host-a", "2")
    assert (first.name, second.name) == ("host-a", "host-a_2")
    first._claim.close()  # as the kernel does for a process that was killed
    assert Identity("test", "host-a", "3").name == "host-a"


def test_the_lead_is_read_safely_from_many_threads() -> None:
    api, clock = LeaseApi(), FakeClock()
    one = candidate(api, "one", clock)
    one._try()
    wrong: list[bool] = []
    threads = [threading.Thread(target=lambda: wrong.extend([False] * (not one.held()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert wrong == []
