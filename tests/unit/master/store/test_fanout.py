"""The fan-out: its window, its bounds, its progress."""

from __future__ import annotations

import pytest

from labctl.runtime.errors import LabError
from master.store.fanout import Fanout, Subscription
from master.store.protocol import Change, Compacted, Progress, StoreError


def change(revision: int, key: str = "/a/x", value: bytes = b"v") -> Change:
    return Change(key, revision, value, None)


def fanout(*, window: int = 100, window_bytes: int = 1 << 20, limit: int = 100) -> Fanout:
    return Fanout(10, progress_s=0.0, window=window, window_bytes=window_bytes, limit=limit)


def subscribed(log: Fanout, prefix: str = "/a/", after: int = 10) -> Subscription:
    subscription = log.subscribe(prefix, after)
    assert subscription is not None
    return subscription


def burst(subscription: Subscription) -> list[int]:
    """The revisions up to the next Progress, and that one's, negative."""
    revisions: list[int] = []
    for item in subscription:
        if isinstance(item, Progress):
            return [*revisions, -item.revision]
        revisions.append(item.revision)
    return revisions


def test_a_burst_is_told_in_order_and_then_its_progress() -> None:
    log = fanout()
    watch = subscribed(log)
    log.publish([change(11), change(12, "/b/x"), change(13), change(13, "/a/y")], 13)
    assert burst(watch) == [11, 13, 13, -13]


def test_a_subscription_gets_nothing_at_or_below_where_it_begins() -> None:
    log = fanout()
    watch = subscribed(log, after=12)
    log.publish([change(11), change(12)], 12)
    log.publish([change(13)], 13)
    assert burst(watch) == [13, -13]


def test_a_subscription_in_the_window_gets_what_it_missed() -> None:
    log = fanout()
    log.publish([change(11), change(12), change(13)], 13)
    assert burst(subscribed(log, after=11)) == [12, 13, -13]


def test_the_window_forgets_by_count_and_by_bytes() -> None:
    by_count, by_bytes = fanout(window=2), fanout(window_bytes=1000)
    for log in (by_count, by_bytes):
        log.publish([change(11, value=b"x" * 400), change(12, value=b"x" * 400), change(13, value=b"x" * 100)], 13)
    assert (by_count.start, by_bytes.start) == (11, 11)
    assert by_count.subscribe("/a/", 10) is None
    assert burst(subscribed(by_bytes, after=11)) == [12, 13, -13]


def test_a_subscription_that_fell_behind_raises_after_what_is_whole_and_claims_no_more() -> None:
    log = fanout(limit=3)
    watch = subscribed(log)
    log.publish([change(11), change(12)], 12)
    log.publish([change(13), change(14)], 14)
    log.publish([change(15)], 15)
    assert burst(watch) == [11, 12, -12]
    with pytest.raises(StoreError, match="behind"):
        next(watch)


@pytest.mark.parametrize("error", [StoreError("gone"), Compacted("old", 20)])
def test_an_ended_log_tells_all_it_had_before_it_raises(error: LabError) -> None:
    log = fanout()
    busy, idle = subscribed(log), subscribed(log, "/b/")
    log.publish([change(11)], 11)
    log.end(error)
    for watch, expected in ((busy, [11, -11]), (idle, [-11])):
        assert burst(watch) == expected
        with pytest.raises(type(error)):
            next(watch)
    assert log.subscribe("/a/", 11) is None


def test_requested_progress_waits_for_its_revision() -> None:
    log = Fanout(10, progress_s=30.0)
    watch = subscribed(log)
    log.request("/a/", 12)
    log.publish([change(11, "/b/x")], 11)
    log.publish([change(12, "/b/x")], 12)
    assert next(watch) == Progress(12)


def test_a_closed_subscription_ends() -> None:
    watch = subscribed(fanout())
    watch.close()
    watch.close()
    assert list(watch) == []
