from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NoReturn
from urllib.parse import parse_qs, urlparse

import msgspec
import pytest

from labctl.kube.cache import Cache
from labctl.kube.client import Client
from labctl.kube.errors import Unavailable
from labctl.kube.informer import Informer
from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import PODS
from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.loop import Stop, wait_for
from tests.unit.labctl.kube.conftest import FakeServer, Request

CLOCK = SystemClock()


class View(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


def pod(name: str, version: int, **meta: object) -> dict[str, object]:
    own = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": str(version), **meta}
    return {"kind": "Pod", "metadata": own}


class Api:
    """Lists what it is told to; its watch says what is put into `events` and follows until told to end."""

    def __init__(self, server: FakeServer) -> None:
        self.items: list[dict[str, object]] = []
        self.revision = 10
        self.pages = 0
        self.watches: list[str] = []
        self.events: list[bytes] = []
        self.more = threading.Condition()
        server.handle = self.handle

    def say(self, kind: str, document: object) -> None:
        with self.more:
            self.events.append(msgspec.json.encode({"type": kind, "object": document}) + b"\n")
            self.more.notify_all()

    def handle(self, request: Request) -> None:
        query = parse_qs(urlparse(request.path).query)
        if "watch" not in query:
            self._list(request, query)
            return
        self.watches.append(query["resourceVersion"][0])
        send = request.stream()
        while True:
            with self.more:
                if not self.events:
                    self.more.wait(5)
                lines, self.events = self.events, []
            for line in lines:
                send(b"" if b'"END"' in line else line)
                if b'"END"' in line:
                    return

    def _list(self, request: Request, query: dict[str, list[str]]) -> None:
        self.pages += 1
        start = int(query.get("continue", ["0"])[0])
        items = self.items[start : start + 2] if "limit" in query else self.items
        token = str(start + 2) if start + 2 < len(self.items) else ""
        meta = {"resourceVersion": str(self.revision), "continue": token}
        request.json(200, {"kind": "PodList", "metadata": meta, "items": items})


@pytest.fixture
def stop() -> Iterator[Stop]:
    ending = Stop()
    yield ending
    ending.set()


def follow(server: FakeServer, stop: Stop) -> Informer[View]:
    informer = Informer(server.client(), PODS, View)
    informer.start(stop)
    assert informer.wait_synced(stop, 5)
    return informer


def eventually(informer: Informer[View], *keys: str) -> None:
    wanted = {f"default/{key}" for key in keys}
    wait_for(lambda: set(informer.snapshot()) == wanted, what=str(keys), deadline_s=5, clock=CLOCK, every_s=0.01)


def test_all_pages_of_a_list_are_taken_in(server: FakeServer, stop: Stop) -> None:
    api = Api(server)
    api.items = [pod(name, 1) for name in "abcde"]
    eventually(follow(server, stop), *"abcde")
    assert api.pages == 3


def test_a_watch_starts_where_the_list_ended_and_goes_on_where_it_broke_off(server: FakeServer, stop: Stop) -> None:
    api = Api(server)
    informer = follow(server, stop)
    api.say("ADDED", pod("a", 12))
    api.say("BOOKMARK", {"metadata": {"resourceVersion": "20"}})
    api.say("END", {})
    eventually(informer, "a")
    wait_for(lambda: len(api.watches) == 2, what="a second watch", deadline_s=5, clock=CLOCK)
    assert api.watches == ["10", "20"]
    assert api.pages == 1


def test_what_was_deleted_while_the_history_was_lost_is_gone_after_the_new_list(server: FakeServer, stop: Stop) -> None:
    api = Api(server)
    api.items = [pod("a", 1), pod("b", 2)]
    informer = follow(server, stop)
    changes = informer.changes()
    changes.take()
    api.items, api.revision = [pod("b", 2)], 30
    api.say("ERROR", {"code": 410, "reason": "Expired", "message": "too old"})
    eventually(informer, "b")
    assert changes.take() == {"default/a"}
    wait_for(lambda: len(api.watches) == 2, what="a second watch", deadline_s=5, clock=CLOCK)
    assert api.watches[1] == "30"


def test_an_object_that_cannot_be_read_is_left_out_and_named(server: FakeServer, stop: Stop) -> None:
    api = Api(server)
    api.items = [pod("a", 1), pod("b", 2, labels=["not", "a", "map"])]
    informer = follow(server, stop)
    eventually(informer, "a")
    assert list(informer.unreadable) == ["default/b"]
    api.say("MODIFIED", pod("b", 12))
    eventually(informer, "a", "b")
    assert informer.unreadable == {}


def test_null_stands_for_absent(server: FakeServer, stop: Stop) -> None:
    api = Api(server)
    api.items = [pod("a", 1, deletionTimestamp=None, labels=None)]
    eventually(follow(server, stop), "a")


def test_the_answer_to_our_own_write_is_there_at_once(server: FakeServer, stop: Stop) -> None:
    Api(server)
    informer = follow(server, stop)
    informer.absorb(pod("mine", 15))
    assert set(informer.snapshot()) == {"default/mine"}


def test_a_watch_event_older_than_what_we_wrote_changes_nothing() -> None:
    cache = Cache[str]()
    cache.absorb("a", "u1", 15, "ours")
    cache.take("a", "u1", 12, "older")
    assert cache.get("a") == "ours"


def test_an_answer_that_comes_after_the_watch_has_passed_it_raises_no_ghost() -> None:
    cache = Cache[str]()
    cache.take("a", "u1", 15, "created")
    cache.take("a", "u1", 16, None)
    cache.absorb("a", "u1", 15, "created")
    assert cache.get("a") is None


def test_a_list_read_before_our_write_does_not_undo_it() -> None:
    cache = Cache[str]()
    cache.absorb("a", "u1", 15, "ours")
    cache.replace({}, 14)
    assert cache.get("a") == "ours"
    cache.replace({}, 15)
    assert cache.get("a") is None


class Silent(Client):
    """Nobody answers, and a try takes this long to find out."""

    def __init__(self, clock: FakeClock, takes_s: float) -> None:
        self._clock, self._takes_s = clock, takes_s

    def list(self, *_: object, **__: object) -> NoReturn:
        self._clock.sleep_s(self._takes_s)
        raise Unavailable("no answer")


class Counted(Stop):
    """Ends after eight waits, and knows them; none takes any time."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s: list[float] = []

    def wait_s(self, seconds: float) -> bool:
        self.waited_s.append(seconds)
        if len(self.waited_s) == 8:
            self.set()
        return self.is_set()


@pytest.mark.parametrize(("takes_s", "most_s"), [(0.0, 2.0), (0.5, 1.5), (3.0, 0.0)])
def test_a_try_that_nobody_answered_counts_as_a_part_of_the_wait_for_the_next(takes_s: float, most_s: float) -> None:
    clock, stop = FakeClock(), Counted()
    informer = Informer(Silent(clock, takes_s), PODS, View, clock=clock).start(stop)
    wait_for(stop.is_set, what="eight tries", deadline_s=30, clock=CLOCK, every_s=0.01)
    assert not informer.synced
    assert max(stop.waited_s) <= most_s
    assert (max(stop.waited_s) > 0) == (most_s > 0)


def test_what_we_deleted_stays_gone_until_the_watch_agrees_and_may_then_come_again() -> None:
    cache = Cache[str]()
    cache.take("a", "u1", 5, "there")
    cache.bury("a", "u1")
    cache.take("a", "u1", 6, "a late change")
    cache.replace({"a": ("u1", 6, "a late list")}, 7)
    assert cache.get("a") is None
    cache.take("a", "u1", 8, None)
    cache.take("a", "u2", 9, "its successor")
    assert cache.get("a") == "its successor"


def test_a_delete_of_the_old_one_does_not_take_its_successor() -> None:
    cache = Cache[str]()
    cache.take("a", "u1", 5, "old")
    cache.bury("a", "u1")
    cache.absorb("a", "u2", 9, "new")
    cache.take("a", "u1", 8, None)
    assert cache.get("a") == "new"


def test_a_snapshot_never_changes() -> None:
    cache = Cache[str]()
    cache.take("a", "u1", 5, "there")
    before = cache.snapshot()
    cache.take("a", "u1", 6, None)
    assert before == {"a": "there"}
    assert cache.snapshot() == {}
