"""The watch cache over the memory store: state, events, history, selectors, failures of the store below."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from labctl.kube.errors import Expired, ServerTimeout, TooManyRequests, Unavailable
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop, wait_for
from master.apiserver.watchcache import (
    ADDED,
    DELETED,
    MODIFIED,
    Cached,
    CacheEvent,
    WatchCache,
    Watcher,
    with_resource_version,
)
from master.store.memory import MemoryStore
from master.store.protocol import Change, Compacted, Progress, StoreError

CLOCK = SystemClock()
PODS = "/registry/pods/"
Told = tuple[str, str, int]


class FlakyStore(MemoryStore):
    """A memory store whose watches can be ended, and kept from coming back."""

    def __init__(self) -> None:
        super().__init__(CLOCK, progress_s=0.2)
        self.watches: list[AbstractContextManager[Iterator[Change | Progress]]] = []
        self.watching = threading.Event()
        self.watching.set()

    def watch(self, prefix: str, *, after: int) -> AbstractContextManager[Iterator[Change | Progress]]:
        if not self.watching.is_set():
            raise StoreError("unplugged")
        watch = super().watch(prefix, after=after)
        self.watches.append(watch)
        return watch

    def unplug(self) -> None:
        """End the watches; no new one until `watching` is set."""
        self.watching.clear()
        while self.watches:
            self.watches.pop().__exit__(None, None, None)


@pytest.fixture
def store() -> Iterator[FlakyStore]:
    made = FlakyStore()
    yield made
    made.close()


@pytest.fixture
def cache(store: FlakyStore) -> Iterator[WatchCache]:
    yield from serving(store)


def serving(store: FlakyStore, *, history: int = 1000, queue: int = 1000) -> Iterator[WatchCache]:
    stop = Stop()
    made = WatchCache(store, PODS, clock=CLOCK, history=history, queue=queue)
    made.start(stop)
    made.wait_ready(deadline_s=5)
    yield made
    stop.set()


def pod(name: str, **labels: str) -> bytes:
    body = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}, "spec": {}}
    return json.dumps(body, separators=(",", ":")).encode()


def put(store: MemoryStore, name: str, **labels: str) -> int:
    """Create or replace one pod."""
    key = f"{PODS}{name}"
    entry, _ = store.get(key)
    if entry is None:
        return store.create(key, pod(name, **labels))
    return store.update(key, pod(name, **labels), expected=entry.revision)


def remove(store: MemoryStore, name: str) -> int:
    entry, _ = store.get(f"{PODS}{name}")
    assert entry is not None
    return store.delete(entry.key, expected=entry.revision)


def synced(cache: WatchCache) -> int:
    return cache.wait_current(deadline_s=5)


def told(watcher: Watcher, timeout_s: float = 0.0) -> list[Told]:
    return [(event.type, event.object.key.removeprefix(PODS), event.revision) for event in watcher.take(timeout_s)]


def names(items: tuple[Cached, ...]) -> list[str]:
    return [item.key.removeprefix(PODS) for item in items]


def labelled(value: str) -> object:
    return lambda item: item.document["metadata"]["labels"].get("app") == value


# The bytes


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        (b'{"kind":"A","apiVersion":"v1","metadata":{"name":"x"}}',
         b'{"kind":"A","apiVersion":"v1","metadata":{"resourceVersion":"7","name":"x"}}'),
        (b'{"kind":"A","apiVersion":"v1","metadata":{}}',
         b'{"kind":"A","apiVersion":"v1","metadata":{"resourceVersion":"7"}}'),
        (b'{"metadata":{"resourceVersion":"1234","name":"x"}}', b'{"metadata":{"resourceVersion":"7","name":"x"}}'),
        (b'{"metadata":{"resourceVersion":"1234"},"a":{}}', b'{"metadata":{"resourceVersion":"7"},"a":{}}'),
        (b'{"metadata":{"name":"x","resourceVersion":"1"}}', b'{"metadata":{"resourceVersion":"7","name":"x"}}'),
        (b'{"spec":{},"metadata":{"name":"x"}}', b'{"spec":{},"metadata":{"resourceVersion":"7","name":"x"}}'),
        (b'{"spec":{"metadata":{"name":"y"}}}',
         b'{"spec":{"metadata":{"name":"y"}},"metadata":{"resourceVersion":"7"}}'),
        (b'{"metadata":{"name":"x"},"ref":{"resourceVersion":"9"}}',
         b'{"metadata":{"resourceVersion":"7","name":"x"},"ref":{"resourceVersion":"9"}}'),
        (b'{ "kind": "A", "metadata": {"name": "x"}}', b'{"kind":"A","metadata":{"resourceVersion":"7","name":"x"}}'),
    ],
)  # fmt: skip
def test_the_resource_version_is_filled_into_metadata_alone(stored: bytes, seen: bytes) -> None:
    assert with_resource_version(stored, 7) == seen
    assert with_resource_version(seen, 7) == seen


def test_a_document_is_parsed_once_while_it_is_in_use() -> None:
    item = Cached("k", 7, b'{"metadata":{}}')
    assert item.document is item.document


# The state


def test_a_list_is_in_key_order_with_resource_versions_filled_in(store: FlakyStore, cache: WatchCache) -> None:
    for name in ("b/2", "a/1", "b/1"):
        put(store, name)
    revision = synced(cache)
    items, at = cache.list()
    assert (names(items), at) == (["a/1", "b/1", "b/2"], revision)
    assert [item.document["metadata"]["resourceVersion"] for item in items] == [str(item.revision) for item in items]
    assert names(cache.list(f"{PODS}b/")[0]) == ["b/1", "b/2"]


def test_what_was_stored_before_the_start_is_there_when_it_is_ready(store: FlakyStore) -> None:
    revision = put(store, "a/1")
    for cache in serving(store):
        assert (cache.revision, names(cache.list()[0])) == (revision, ["a/1"])
        assert cache.get(f"{PODS}a/1") is cache.list()[0][0]


def test_a_consistent_read_sees_every_write_before_it_and_waits_for_no_event_of_its_own(
    store: FlakyStore, cache: WatchCache
) -> None:
    for number in range(50):
        put(store, f"a/{number}")
        elsewhere = store.create(f"/registry/nodes/{number}", b"{}")
        assert synced(cache) == elsewhere
        assert cache.get(f"{PODS}a/{number}") is not None


def test_a_revision_of_the_future_is_refused_as_upstream_refuses_it(cache: WatchCache) -> None:
    with pytest.raises(ServerTimeout, match="Too large resource version: 999, current: 1") as caught:
        cache.wait_until(999, deadline_s=0.05)
    assert caught.value.details["causes"][0]["reason"] == "ResourceVersionTooLarge"
    with pytest.raises(ServerTimeout):
        cache.watch(after=999)


def test_an_unreadable_object_is_left_out_and_stops_nothing(store: FlakyStore, cache: WatchCache) -> None:
    store.create(f"{PODS}a/broken", b"no json")
    put(store, "a/fine")
    synced(cache)
    assert names(cache.list()[0]) == ["a/fine"]


# Events


def test_a_watch_tells_what_happens_after_it_began(store: FlakyStore, cache: WatchCache) -> None:
    put(store, "a/1")
    synced(cache)
    with cache.watch() as watcher:
        added, modified, deleted = put(store, "a/2"), put(store, "a/1", app="x"), remove(store, "a/2")
        synced(cache)
        assert told(watcher) == [(ADDED, "a/2", added), (MODIFIED, "a/1", modified), (DELETED, "a/2", deleted)]
        assert watcher.revision == deleted


def test_a_deleted_object_carries_its_last_state_and_the_revision_of_its_end(
    store: FlakyStore, cache: WatchCache
) -> None:
    put(store, "a/1", app="x")
    synced(cache)
    with cache.watch() as watcher:
        gone = remove(store, "a/1")
        (event,) = watcher.take(5)
    assert event.object.document["metadata"] == {"resourceVersion": str(gone), "name": "a/1", "labels": {"app": "x"}}


def test_a_watch_blocks_until_something_happens(store: FlakyStore, cache: WatchCache) -> None:
    with cache.watch() as watcher, ThreadPoolExecutor(1) as pool:
        taken = pool.submit(watcher.take, 10)
        revision = put(store, "a/1")
        assert [event.revision for event in taken.result(5)] == [revision]


def test_a_quiet_watch_knows_how_far_it_is_for_its_bookmark(store: FlakyStore, cache: WatchCache) -> None:
    with cache.watch() as watcher:
        elsewhere = store.create("/registry/nodes/n", b"{}")
        synced(cache)
        assert watcher.take(0) == []
        assert watcher.revision == elsewhere


def test_the_initial_state_comes_first_and_events_follow_without_a_gap(store: FlakyStore, cache: WatchCache) -> None:
    put(store, "a/1", app="x")
    put(store, "a/2", app="y")
    put(store, "b/1", app="x")
    revision = synced(cache)
    with cache.watch(f"{PODS}a/", initial=True, match=labelled("x")) as watcher:  # type: ignore[arg-type]
        later = put(store, "a/3", app="x")
        synced(cache)
        assert [(event.type, event.object.key) for event in watcher.initial_events()] == [(ADDED, f"{PODS}a/1")]
        assert watcher.initial_revision == revision
        assert told(watcher) == [(ADDED, "a/3", later)]


def test_a_watch_from_the_past_gets_what_it_missed(store: FlakyStore, cache: WatchCache) -> None:
    first = put(store, "a/1")
    later = [put(store, "a/2"), remove(store, "a/1"), put(store, "a/2", app="x")]
    synced(cache)
    with cache.watch(after=first) as watcher:
        assert [event.revision for event in watcher.take(0)] == later


def test_a_watch_older_than_the_history_is_expired(store: FlakyStore) -> None:
    for cache in serving(store, history=10):
        revisions = [put(store, "a/1", app=str(number)) for number in range(30)]
        synced(cache)
        with pytest.raises(Expired, match="too old resource version"):
            cache.watch(after=revisions[10])
        with cache.watch(after=revisions[19]) as watcher:
            assert [event.revision for event in watcher.take(0)] == revisions[20:]


def test_a_cache_that_begins_anew_tells_a_watch_what_happened_before(store: FlakyStore) -> None:
    first = put(store, "a/1")
    moved = [put(store, "a/1", app="x"), put(store, "a/2"), remove(store, "a/1")]
    for cache in serving(store):
        moved.append(put(store, "a/3"))
        synced(cache)
        with cache.watch(after=first) as watcher:
            assert told(watcher) == [
                ("MODIFIED", "a/1", moved[0]),
                ("ADDED", "a/2", moved[1]),
                ("DELETED", "a/1", moved[2]),
                ("ADDED", "a/3", moved[3]),
            ]
        with cache.watch(after=moved[0], match=labelled("x")) as watcher:  # type: ignore[arg-type]
            assert told(watcher) == [("DELETED", "a/1", moved[2])]


def test_what_was_compacted_before_a_cache_began_is_expired(store: FlakyStore) -> None:
    first = put(store, "a/1")
    put(store, "a/2")
    store.compact(put(store, "a/3"))
    for cache in serving(store):
        with pytest.raises(Expired, match="too old resource version"):
            cache.watch(after=first)


def test_a_client_that_does_not_read_is_ended_after_what_was_queued(store: FlakyStore) -> None:
    for cache in serving(store, queue=5):
        with cache.watch() as slow, cache.watch() as quick:
            revisions: list[int] = []
            for number in range(8):
                revisions.append(put(store, "a/1", app=str(number)))
                synced(cache)
                assert [event.revision for event in quick.take(0)] == revisions[-1:]
            assert [event.revision for event in slow.take(0)] == revisions[:5]
            with pytest.raises(TooManyRequests):
                slow.take(0)
            with cache.watch(after=slow.revision) as again:
                assert [event.revision for event in again.take(0)] == revisions[5:]


def test_an_event_is_encoded_once_for_all_watchers(store: FlakyStore, cache: WatchCache) -> None:
    made: list[str] = []

    def build(event: CacheEvent) -> bytes:
        made.append(event.type)
        return event.type.encode() + event.object.raw

    with cache.watch() as one, cache.watch() as two:
        put(store, "a/1")
        synced(cache)
        first, second = one.take(0)[0], two.take(0)[0]
        assert first.encoded("json", build) is second.encoded("json", build)
        first.encoded("table", build)
    assert made == [ADDED, ADDED]


# Selectors


def test_an_object_that_begins_or_ceases_to_match_appears_or_vanishes(store: FlakyStore, cache: WatchCache) -> None:
    with cache.watch(match=labelled("x")) as watcher:  # type: ignore[arg-type]
        put(store, "a/1", app="y")
        begins = put(store, "a/1", app="x")
        stays = put(store, "a/1", app="x", more="1")
        ceases = put(store, "a/1", app="z")
        remove(store, "a/1")
        comes = put(store, "a/2", app="x")
        goes = remove(store, "a/2")
        synced(cache)
        events = watcher.take(0)
        assert [(event.type, event.object.key.removeprefix(PODS), event.revision) for event in events] == [
            (ADDED, "a/1", begins),
            (MODIFIED, "a/1", stays),
            (DELETED, "a/1", ceases),
            (ADDED, "a/2", comes),
            (DELETED, "a/2", goes),
        ]
        vanished = events[2].object.document["metadata"]
        assert (vanished["labels"], vanished["resourceVersion"]) == ({"app": "x", "more": "1"}, str(ceases))


def test_watchers_with_one_selector_share_the_encodings_of_what_appears_to_them(
    store: FlakyStore, cache: WatchCache
) -> None:
    put(store, "a/1", app="y")
    synced(cache)
    with cache.watch(match=labelled("x")) as one, cache.watch(match=labelled("x")) as two:  # type: ignore[arg-type]
        put(store, "a/1", app="x")
        synced(cache)
        assert one.take(0)[0] is two.take(0)[0]


def test_a_selector_that_fails_ends_its_own_watch_alone(store: FlakyStore, cache: WatchCache) -> None:
    with cache.watch(match=lambda item: item.document["nothing"]) as bad, cache.watch() as good:
        put(store, "a/1")
        synced(cache)
        assert len(good.take(0)) == 1
        with pytest.raises(Unavailable):
            bad.take(0)


# The store fails


def test_watchers_stay_while_the_store_is_away_and_miss_nothing(store: FlakyStore, cache: WatchCache) -> None:
    put(store, "a/1")
    synced(cache)
    with cache.watch() as watcher:
        store.unplug()
        revisions = [put(store, "a/2"), put(store, "a/1", app="x"), remove(store, "a/2")]
        store.watching.set()
        synced(cache)
        assert [event.revision for event in watcher.take(0)] == revisions


def test_after_a_compaction_the_difference_is_told_as_events(store: FlakyStore, cache: WatchCache) -> None:
    for name in ("a/gone", "a/stays", "a/changes", "a/anew"):
        put(store, name)
    before = synced(cache)
    with cache.watch() as watcher:
        store.unplug()
        put(store, "a/changes", app="1")
        changed = put(store, "a/changes", app="2")
        remove(store, "a/gone")
        remove(store, "a/anew")
        anew = put(store, "a/anew")
        put(store, "a/blink")
        remove(store, "a/blink")
        added = put(store, "a/new")
        store.compact(store.revision())
        store.watching.set()
        revision = synced(cache)
        events = told(watcher)
        assert sorted(event[:2] for event in events[:2]) == [(DELETED, "a/anew"), (DELETED, "a/gone")]
        assert all(before < event[2] < changed for event in events[:2])
        assert events[2:] == [(MODIFIED, "a/changes", changed), (ADDED, "a/anew", anew), (ADDED, "a/new", added)]
        assert names(cache.list()[0]) == ["a/anew", "a/changes", "a/new", "a/stays"]
        with pytest.raises(Expired):
            cache.watch(after=changed)  # inside the gap nobody knows what happened
        with cache.watch(after=before) as other:
            assert told(other) == events
        with cache.watch(after=revision) as other:
            assert told(other) == []
        live = put(store, "a/live")
        assert told(watcher, 5) == [(ADDED, "a/live", live)]


def test_when_the_store_goes_back_in_time_every_client_must_list_again() -> None:
    young, old = FlakyStore(), FlakyStore()
    put(young, "a/1")
    for number in range(20):
        put(old, f"a/{number}")

    class Restored(FlakyStore):
        now: FlakyStore = old

        def list(self, prefix, **options):  # type: ignore[no-untyped-def]
            return self.now.list(prefix, **options)

        def watch(self, prefix, *, after):  # type: ignore[no-untyped-def]
            if after > self.now.revision():
                raise Compacted("from the future", self.now.revision())
            return self.now.watch(prefix, after=after)

    store = Restored()
    for cache in serving(store):
        with cache.watch() as watcher:
            store.now = young
            old.unplug()
            with pytest.raises(Expired):
                watcher.take(5)
        assert names(cache.list()[0]) == ["a/1"]


def test_closing_ends_every_watch(cache: WatchCache) -> None:
    with cache.watch() as watcher:
        cache.close()
        with pytest.raises(Unavailable, match="shutting down"):
            watcher.take(5)
    with pytest.raises(Unavailable):
        cache.watch()


def test_a_closed_watch_wakes_its_reader_and_gets_nothing_more(store: FlakyStore, cache: WatchCache) -> None:
    watcher = cache.watch()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(watcher.take, 30)
        watcher.close()
        with pytest.raises(Unavailable):
            taken.result(5)
    put(store, "a/1")
    synced(cache)
    with pytest.raises(Unavailable):
        watcher.take(0)


# Many at once


def test_under_concurrent_writers_every_watch_rebuilds_the_same_state(store: FlakyStore, cache: WatchCache) -> None:
    def write(writer: int) -> None:
        for number in range(40):
            put(store, f"{writer}/{number % 7}", app=str(number))
            if number % 5 == 0:
                remove(store, f"{writer}/{number % 7}")

    def follow(initial: bool) -> dict[str, bytes]:
        state: dict[str, bytes] = {}
        with cache.watch(initial=initial, after=None if initial else 1) as watcher:
            last = 0
            for event in watcher.initial_events():
                state[event.object.key] = event.object.raw
            while not done.is_set() or watcher.revision < store.revision():
                for event in watcher.take(0.05):
                    assert event.revision > last
                    last = event.revision
                    assert (event.type == ADDED) == (event.object.key not in state)
                    if event.type == DELETED:
                        del state[event.object.key]
                    else:
                        state[event.object.key] = event.object.raw
        return state

    done = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, writer) for writer in range(4)]
        followers = [pool.submit(follow, number % 2 == 0) for number in range(4)]
        for writer in writers:
            writer.result(30)
        synced(cache)
        done.set()
        expected = {item.key: item.raw for item in cache.list()[0]}
        assert [follower.result(30) == expected for follower in followers] == [True] * 4


def test_the_feeder_ends_when_it_is_asked_to(store: FlakyStore) -> None:
    stop = Stop()
    cache = WatchCache(store, PODS, clock=CLOCK)
    thread = threading.Thread(target=cache.run, args=(stop,))
    thread.start()
    cache.wait_ready(deadline_s=5)
    stop.set()
    wait_for(lambda: not thread.is_alive(), what="the feeder to end", deadline_s=5, clock=CLOCK)


def test_a_follower_learns_every_key_that_changed(store: FlakyStore, cache: WatchCache) -> None:
    store.create(PODS + "a/one", pod("one"))
    cache.wait_current(deadline_s=5)
    changed = cache.follow()
    assert changed == {PODS + "a/one"}
    changed.clear()
    store.create(PODS + "a/two", pod("two"))
    store.delete(PODS + "a/one", expected=cache.revision)
    cache.wait_current(deadline_s=5)
    assert changed == {PODS + "a/one", PODS + "a/two"}
