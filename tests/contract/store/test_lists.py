"""What both stores promise about lists: key order, one revision, pages, compaction."""

from __future__ import annotations

import pytest

from master.store.protocol import Compacted, Entry, Store, StoreError


def keys(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.key for entry in entries]


def fill(store: Store, at: str, names: str) -> None:
    for name in names:
        store.create(f"{at}{name}", name.encode())


def test_a_list_is_in_key_order_and_under_its_prefix_only(store: Store, at: str) -> None:
    for name in ("c", "a/2", "b", "a/10", "a-x"):
        store.create(f"{at}{name}", b"x")
    store.create(f"{at[:-1]}0", b"outside: the neighbour of the prefix")
    page = store.list(at)
    assert keys(page.entries) == [f"{at}{name}" for name in ("a-x", "a/10", "a/2", "b", "c")]
    assert (page.remaining, page.next_after, page.revision) == (0, "", store.revision())


def test_an_empty_list_has_a_revision(store: Store, at: str) -> None:
    page = store.list(at)
    assert (page.entries, page.remaining, page.next_after, page.revision) == ((), 0, "", store.revision())


def test_pages_together_are_the_list_as_it_stood_at_the_first(store: Store, at: str) -> None:
    fill(store, at, "abcdefg")
    first = store.list(at, limit=3)
    assert (keys(first.entries), first.remaining) == ([f"{at}a", f"{at}b", f"{at}c"], 4)
    entry = first.entries[2]
    store.delete(entry.key, expected=entry.revision)
    store.create(f"{at}d5", b"new")
    store.update(f"{at}g", b"changed", expected=store.list(at).entries[-1].revision)
    second = store.list(at, limit=3, after=first.next_after, revision=first.revision)
    third = store.list(at, limit=3, after=second.next_after, revision=first.revision)
    assert keys(second.entries) == [f"{at}d", f"{at}e", f"{at}f"]
    assert (second.remaining, second.revision) == (1, first.revision)
    assert [(entry.key, entry.value) for entry in third.entries] == [(f"{at}g", b"g")]
    assert (third.remaining, third.next_after) == (0, "")


def test_a_page_of_exactly_the_rest_says_that_it_is_the_last(store: Store, at: str) -> None:
    fill(store, at, "abcd")
    page = store.list(at, limit=2, after=store.list(at, limit=2).next_after)
    assert (keys(page.entries), page.remaining, page.next_after) == ([f"{at}c", f"{at}d"], 0, "")


def test_the_past_reads_as_it_was(store: Store, at: str) -> None:
    created = store.create(f"{at}a", b"1")
    gone = store.delete(f"{at}a", expected=store.update(f"{at}a", b"2", expected=created))
    assert [entry.value for entry in store.list(at, revision=created).entries] == [b"1"]
    assert [entry.value for entry in store.list(at, revision=gone - 1).entries] == [b"2"]
    assert store.list(at, revision=gone).entries == ()


def test_a_list_longer_than_the_wire_likes_in_one_piece_is_whole(store: Store, at: str) -> None:
    value = b"v" * 2000
    for number in range(1203):
        store.create(f"{at}{number:05}", value)
    page = store.list(at)
    assert keys(page.entries) == [f"{at}{number:05}" for number in range(1203)]
    assert {entry.value for entry in page.entries} == {value}
    assert (page.remaining, page.next_after) == (0, "")
    assert store.list(at, limit=1001).remaining == 202


def test_the_future_cannot_be_listed(store: Store, at: str) -> None:
    with pytest.raises(StoreError):
        store.list(at, revision=store.revision() + 1000)


def test_the_compacted_past_cannot_be_listed_but_what_it_left_can(store: Store, at: str) -> None:
    created = store.create(f"{at}a", b"1")
    updated = store.update(f"{at}a", b"2", expected=created)
    store.create(f"{at}b", b"x")
    store.compact(updated)
    with pytest.raises(Compacted) as caught:
        store.list(at, revision=created)
    assert store.list(at, revision=caught.value.oldest).entries[0].key == f"{at}a"
    assert [entry.value for entry in store.list(at, revision=updated).entries] == [b"2"]
    assert [entry.value for entry in store.list(at).entries] == [b"2", b"x"]


def test_compacting_twice_or_ahead_changes_nothing(store: Store, at: str) -> None:
    revision = store.create(f"{at}a", b"1")
    store.compact(revision)
    store.compact(revision)
    store.compact(revision - 1)
    store.compact(store.revision() + 1000)
    assert [entry.value for entry in store.list(at, revision=revision).entries] == [b"1"]
