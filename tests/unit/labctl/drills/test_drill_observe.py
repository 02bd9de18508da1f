"""Watching: every event is kept, a broken watch goes on where it was, a lost place is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labctl.drills.history import Recorder
from labctl.drills.observe import Observers, Stream
from labctl.drills.records import NodeSeen, Replayed, StreamLost, StreamOpened, StreamResumed
from labctl.kube.client import WatchEvent
from labctl.kube.errors import Expired, Unavailable
from labctl.kube.resources import NODES, Resource
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop, wait_for
from tests.unit.labctl.drills.drill_fakes import FakeApi

CLOCK = SystemClock()


class Moody(FakeApi):
    """Its first watches fail as told."""

    def __init__(self, *moods: Exception) -> None:
        super().__init__()
        self.moods = list(moods)
        self.put(NODES, node("worker1"))

    @contextmanager
    def watch(
        self, resource: Resource, namespace: str = "", *, resource_version: str, timeout_s: int = 300
    ) -> Iterator[Iterator[WatchEvent]]:
        if self.moods:
            raise self.moods.pop(0)
        with super().watch(resource, namespace, resource_version=resource_version, timeout_s=timeout_s) as events:
            yield events


def node(name: str, ready: str = "True") -> dict[str, object]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "history.jsonl", CLOCK)


@contextmanager
def following(api: FakeApi, recorder: Recorder) -> Iterator[Stream]:
    stop = Stop()
    stream = Stream(api, NODES, "", recorder, CLOCK)
    stream.open()
    stream.start(stop)
    yield stream
    stop.set()


def until(recorder: Recorder, seen: Callable[[Recorder], object], what: str) -> None:
    wait_for(lambda: seen(recorder), what=what, deadline_s=30.0, clock=CLOCK, every_s=0.01)


def states(recorder: Recorder) -> list[tuple[str, str]]:
    return [(seen.event, seen.ready) for _, seen in recorder.history().of(NodeSeen)]


def test_what_was_there_is_listed_and_every_change_follows(recorder: Recorder) -> None:
    api = Moody()
    with following(api, recorder):
        for ready in ("Unknown", "True"):
            api.put(NODES, node("worker1", ready))
        until(recorder, lambda r: len(states(r)) == 3, "two changes")
    assert states(recorder) == [("LISTED", "True"), ("MODIFIED", "Unknown"), ("MODIFIED", "True")]


def test_a_watch_that_breaks_goes_on_from_where_it_was(recorder: Recorder) -> None:
    api = Moody(Unavailable("the API server does not answer"))
    with following(api, recorder):
        api.put(NODES, node("worker1", "Unknown"))
        until(recorder, lambda r: len(states(r)) == 2, "the change")
    assert recorder.history().first(StreamResumed) is not None
    assert recorder.history().first(StreamLost) is None


def test_a_lost_place_is_said_and_everything_listed_again(recorder: Recorder) -> None:
    api = Moody(Expired("too old resource version"))
    with following(api, recorder):
        until(recorder, lambda r: len(list(r.history().of(StreamOpened))) == 2, "a second list")
    assert recorder.history().first(StreamLost) is not None


def test_the_servers_own_account_is_read_afterwards(recorder: Recorder) -> None:
    api = Moody()
    with following(api, recorder) as stream:
        api.put(NODES, node("worker2"))
        until(recorder, lambda r: len(states(r)) == 2, "the new node")
        stream.replay()
    found = recorder.history().last(Replayed)
    assert found is not None
    assert found[1].events == ("1002 ADDED worker2",)
    assert not found[1].error


def test_an_account_that_cannot_be_had_is_an_error_not_an_empty_one(recorder: Recorder) -> None:
    api = Moody()
    with following(api, recorder) as stream:
        api.put(NODES, node("worker2"))
        until(recorder, lambda r: len(states(r)) == 2, "the watch to be open")
        api.moods.append(Expired("compacted"))
        stream.replay()
    found = recorder.history().last(Replayed)
    assert found is not None
    assert "compacted" in found[1].error


def test_all_four_streams_are_opened_before_any_is_followed(recorder: Recorder) -> None:
    stop = Stop()
    Observers(FakeApi(), recorder, CLOCK).start(stop)
    stop.set()
    opened = {record.stream for _, record in recorder.history().of(StreamOpened)}
    assert opened == {"nodes", "pods", "endpointslices", "leases", "leaders"}
