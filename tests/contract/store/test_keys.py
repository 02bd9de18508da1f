"""What both stores promise about single keys: compare-and-swap, revisions, time to live."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from master.store.protocol import AT_ONCE, KeyExists, RevisionMismatch, Store


def test_an_absent_key_reads_as_none_at_the_current_revision(store: Store, at: str) -> None:
    assert store.get(f"{at}a") == (None, store.revision())


def test_a_created_key_reads_back_with_its_revisions(store: Store, at: str) -> None:
    created = store.create(f"{at}a", b"\x00\xff{}")
    entry, revision = store.get(f"{at}a")
    assert entry is not None
    assert (entry.key, entry.value, entry.revision, entry.created_revision) == (
        f"{at}a", b"\x00\xff{}", created, created,
    )  # fmt: skip
    assert revision == store.revision() == created


def test_an_empty_value_is_a_value(store: Store, at: str) -> None:
    store.create(f"{at}a", b"")
    entry, _ = store.get(f"{at}a")
    assert entry is not None
    assert entry.value == b""


def test_a_taken_key_is_not_created_again(store: Store, at: str) -> None:
    before = store.create(f"{at}a", b"1")
    with pytest.raises(KeyExists):
        store.create(f"{at}a", b"2")
    entry, revision = store.get(f"{at}a")
    assert entry is not None
    assert (entry.value, revision) == (b"1", before)


def test_many_keys_are_created_at_one_revision(store: Store, at: str) -> None:
    before = store.revision()
    revision = store.create_all({f"{at}{number:03}": b"%d" % number for number in range(AT_ONCE)})
    entries = store.list(at).entries
    assert revision > before
    assert [entry.value for entry in entries] == [b"%d" % number for number in range(AT_ONCE)]
    assert {(entry.revision, entry.created_revision) for entry in entries} == {(revision, revision)}


def test_where_one_of_many_keys_is_taken_none_is_created(store: Store, at: str) -> None:
    before = store.create(f"{at}b", b"1")
    with pytest.raises(KeyExists):
        store.create_all({f"{at}a": b"2", f"{at}b": b"2", f"{at}c": b"2"})
    entries, revision = store.list(at).entries, store.revision()
    assert [(entry.key, entry.value) for entry in entries] == [(f"{at}b", b"1")]
    assert revision == before


def test_an_update_at_the_expected_revision_is_taken_and_keeps_the_creation(store: Store, at: str) -> None:
    created = store.create(f"{at}a", b"1")
    updated = store.update(f"{at}a", b"2", expected=created)
    entry, _ = store.get(f"{at}a")
    assert updated > created
    assert entry is not None
    assert (entry.value, entry.revision, entry.created_revision) == (b"2", updated, created)


def test_an_update_of_a_stale_revision_tells_what_stands_there(store: Store, at: str) -> None:
    created = store.create(f"{at}a", b"1")
    updated = store.update(f"{at}a", b"2", expected=created)
    with pytest.raises(RevisionMismatch) as caught:
        store.update(f"{at}a", b"3", expected=created)
    assert caught.value.current is not None
    assert (caught.value.current.value, caught.value.current.revision) == (b"2", updated)


@pytest.mark.parametrize("write", ["update", "delete"])
def test_a_conditional_write_to_an_absent_key_tells_that_nothing_stands_there(
    store: Store, at: str, write: str
) -> None:
    revision = store.delete(f"{at}a", expected=store.create(f"{at}a", b"1"))
    calls = {"update": partial(store.update, f"{at}a", b"2"), "delete": partial(store.delete, f"{at}a")}
    with pytest.raises(RevisionMismatch) as caught:
        calls[write](expected=revision)
    assert caught.value.current is None
    assert store.get(f"{at}a") == (None, revision)


def test_revision_zero_is_never_what_stands_there(store: Store, at: str) -> None:
    with pytest.raises(RevisionMismatch):
        store.update(f"{at}a", b"1", expected=0)
    assert store.list(at).entries == ()


def test_a_stale_delete_leaves_the_key(store: Store, at: str) -> None:
    created = store.create(f"{at}a", b"1")
    updated = store.update(f"{at}a", b"2", expected=created)
    with pytest.raises(RevisionMismatch):
        store.delete(f"{at}a", expected=created)
    assert store.delete(f"{at}a", expected=updated) == updated + 1


def test_a_key_made_anew_has_a_new_creation(store: Store, at: str) -> None:
    store.delete(f"{at}a", expected=store.create(f"{at}a", b"1"))
    again = store.create(f"{at}a", b"2")
    entry, _ = store.get(f"{at}a")
    assert entry is not None
    assert entry.created_revision == entry.revision == again


def test_concurrent_increments_lose_none(store: Store, at: str) -> None:
    store.create(f"{at}counter", b"0")

    def increment(_: int) -> None:
        entry, _revision = store.get(f"{at}counter")
        while True:
            assert entry is not None
            try:
                store.update(f"{at}counter", str(int(entry.value) + 1).encode(), expected=entry.revision)
                return
            except RevisionMismatch as error:
                entry = error.current

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(64)))
    entry, _ = store.get(f"{at}counter")
    assert entry is not None
    assert entry.value == b"64"


def test_revisions_of_concurrent_creates_are_all_different(store: Store, at: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        revisions = list(pool.map(lambda number: store.create(f"{at}{number}", b"x"), range(40)))
    assert len(set(revisions)) == 40
    assert max(revisions) <= store.revision()


def test_a_key_with_a_time_to_live_vanishes_by_itself_and_not_before(store: Store, at: str) -> None:
    clock = SystemClock()
    began_s = clock.monotonic_s()
    store.create(f"{at}short", b"x", ttl_s=2)
    store.create(f"{at}long", b"x", ttl_s=300)
    store.create(f"{at}ever", b"x")
    wait_for(
        lambda: store.get(f"{at}short")[0] is None,
        what="the key to vanish", deadline_s=15, clock=clock, every_s=0.05,
    )  # fmt: skip
    assert clock.monotonic_s() - began_s >= 1.9
    assert [entry.key for entry in store.list(at).entries] == [f"{at}ever", f"{at}long"]


def test_keys_of_one_moment_may_share_their_end_but_not_their_fate(store: Store, at: str) -> None:
    first = store.create(f"{at}a", b"x", ttl_s=600)
    store.create(f"{at}b", b"x", ttl_s=600)
    store.delete(f"{at}a", expected=first)
    assert [entry.key for entry in store.list(at).entries] == [f"{at}b"]


def test_an_update_begins_the_time_to_live_anew_or_ends_it(store: Store, at: str) -> None:
    clock = SystemClock()
    kept = store.create(f"{at}kept", b"x", ttl_s=2)
    store.update(f"{at}kept", b"y", expected=kept)
    bound = store.create(f"{at}bound", b"x")
    store.update(f"{at}bound", b"y", expected=bound, ttl_s=2)
    wait_for(
        lambda: store.get(f"{at}bound")[0] is None,
        what="the key to vanish", deadline_s=15, clock=clock, every_s=0.05,
    )  # fmt: skip
    assert [entry.key for entry in store.list(at).entries] == [f"{at}kept"]
