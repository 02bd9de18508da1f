"""What both stores promise about watches: every change once, in order, without a gap; progress; compaction."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from master.store.protocol import Change, Compacted, Store, StoreError
from tests.contract.store.reading import Reader


def test_a_watch_tells_creates_updates_and_deletes_with_what_stood_before(store: Store, at: str) -> None:
    start = store.revision()
    with Reader(store, at, after=start) as reader:
        created = store.create(f"{at}a", b"1")
        updated = store.update(f"{at}a", b"2", expected=created)
        gone = store.delete(f"{at}a", expected=updated)
        reader.until_revision(gone)
    assert reader.changes == [
        Change(f"{at}a", created, b"1", None),
        Change(f"{at}a", updated, b"2", b"1"),
        Change(f"{at}a", gone, None, b"2"),
    ]


def test_a_watch_begins_right_after_the_revision_asked_for(store: Store, at: str) -> None:
    first = store.create(f"{at}a", b"1")
    second = store.create(f"{at}b", b"1")
    third = store.create(f"{at}c", b"1")
    with Reader(store, at, after=first) as reader:
        reader.until_revision(third)
    assert [change.revision for change in reader.changes] == [second, third]


def test_a_watch_of_the_past_joins_the_present(store: Store, at: str) -> None:
    start = store.revision()
    with Reader(store, at, after=start):  # moves a shared stream past what the second watch asks for
        revisions = [store.create(f"{at}{number}", b"x") for number in range(5)]
        with Reader(store, at, after=start + 2) as reader:
            revisions.append(store.create(f"{at}last", b"x"))
            reader.until_revision(revisions[-1])
    assert [change.revision for change in reader.changes] == revisions[2:]


def test_a_watch_sees_its_prefix_only(store: Store, at: str) -> None:
    with Reader(store, f"{at}in/", after=store.revision()) as reader:
        store.create(f"{at}out/a", b"x")
        store.create(f"{at}in", b"x")
        store.create(f"{at}in0", b"x")
        inside = store.create(f"{at}in/a", b"x")
        reader.until_revision(store.create(f"{at}out/b", b"x"))
    assert [change.revision for change in reader.changes] == [inside]


def test_progress_reaches_writes_that_were_elsewhere(store: Store, at: str) -> None:
    with Reader(store, f"{at}quiet/", after=store.revision()) as reader:
        elsewhere = store.create(f"{at}a", b"x")
        reader.until_revision(elsewhere, deadline_s=3.0)
    assert reader.changes == []


def test_progress_never_runs_ahead_of_changes(store: Store, at: str) -> None:
    start = store.revision()
    told: list[tuple[int, int]] = []  # (progress, changes seen by then)
    with store.watch(at, after=start) as items:
        for number in range(20):
            revision = store.create(f"{at}{number}", b"x")
            store.request_progress(at, revision=revision)
        seen = 0
        for item in items:
            if isinstance(item, Change):
                seen += 1
                continue
            told.append((item.revision, seen))
            if item.revision >= revision:
                break
    own = [entry.revision for entry in store.list(at).entries]
    assert all(seen == sum(one <= progress for one in own) for progress, seen in told)


def test_watches_under_concurrent_writers_miss_nothing_and_repeat_nothing(store: Store, at: str) -> None:
    start = store.revision()
    with Reader(store, at, after=start) as whole, Reader(store, f"{at}3/", after=start) as part:

        def write(writer: int) -> list[int]:
            revisions: list[int] = []
            for number in range(25):
                revisions.append(store.create(f"{at}{writer}/{number}", b"1"))
                revisions.append(store.update(f"{at}{writer}/{number}", b"2", expected=revisions[-1]))
            return revisions

        with ThreadPoolExecutor(6) as pool:
            written = list(pool.map(write, range(6)))
        with Reader(store, at, after=start) as late:
            for reader in (whole, part, late):
                reader.until_revision(store.revision())
    every = sorted(revision for revisions in written for revision in revisions)
    assert [change.revision for change in whole.changes] == every
    assert [change.revision for change in late.changes] == every
    assert [change.revision for change in part.changes] == written[3]


def test_a_large_value_comes_through_whole(store: Store, at: str) -> None:
    value = bytes(range(256)) * 4000  # 1 MB
    with Reader(store, at, after=store.revision()) as reader:
        created = store.create(f"{at}a", value)
        reader.until_revision(store.update(f"{at}a", value[::-1], expected=created))
    assert [change.value for change in reader.changes] == [value, value[::-1]]


def test_many_large_changes_of_the_past_come_through_in_order(store: Store, at: str) -> None:
    start = store.revision()
    value = b"x" * 300_000
    revisions = [store.create(f"{at}{number}", value) for number in range(12)]
    with Reader(store, at, after=start) as reader:
        reader.until_revision(revisions[-1])
    assert [change.revision for change in reader.changes] == revisions


def test_an_expired_key_is_told_as_a_delete_with_what_stood_before(store: Store, at: str) -> None:
    with Reader(store, at, after=store.revision()) as reader:
        store.create(f"{at}a", b"short", ttl_s=1)
        reader.until(lambda reader: len(reader.changes) == 2)
    assert (reader.changes[1].value, reader.changes[1].previous) == (None, b"short")


def test_a_watch_of_the_compacted_past_ends_with_compacted(store: Store, at: str) -> None:
    old = store.create(f"{at}a", b"1")
    new = store.update(f"{at}a", b"2", expected=old)
    store.compact(new)
    with Reader(store, at, after=old - 1) as reader:
        reader.until(lambda reader: reader.ended)
    assert isinstance(reader.error, Compacted)
    assert reader.error.oldest >= new
    assert reader.changes == []


def test_a_watch_from_the_compacted_revision_itself_goes_on(store: Store, at: str) -> None:
    gone = store.delete(f"{at}a", expected=store.create(f"{at}a", b"1"))
    store.compact(gone)
    with Reader(store, at, after=gone) as reader:
        created = store.create(f"{at}b", b"1")
        reader.until_revision(created)
    assert [change.revision for change in reader.changes] == [created]


def test_a_running_watch_outlives_compaction(store: Store, at: str) -> None:
    with Reader(store, at, after=store.revision()) as reader:
        first = store.create(f"{at}a", b"1")
        reader.until_revision(first)
        store.compact(first)
        second = store.create(f"{at}b", b"1")
        reader.until_revision(second)
    assert [change.revision for change in reader.changes] == [first, second]


def test_closing_the_store_ends_its_watches_and_further_ones(store: Store, at: str) -> None:
    with Reader(store, at, after=store.revision()) as reader:
        store.close()
        reader.until(lambda reader: reader.ended)
    assert isinstance(reader.error, StoreError)
    with pytest.raises(StoreError):
        store.watch(at, after=1)
