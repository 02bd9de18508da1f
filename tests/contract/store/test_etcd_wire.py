"""What only etcd's wire can show: revisions of many keys cut into fragments, keys that are not ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labctl.runtime.clock import SystemClock
from master.store.calls import Calls
from master.store.etcd import EtcdStore
from master.store.gateway import Gateway
from master.store.messages import Operation, Put, Txn
from master.store.protocol import Change, Progress
from tests.etcd import Etcd

pytestmark = pytest.mark.etcd

CLOCK = SystemClock()


@pytest.fixture
def store(etcd: Etcd) -> Iterator[EtcdStore]:
    made = EtcdStore([etcd.url], clock=CLOCK)
    yield made
    made.close()


def write_at_once(etcd: Etcd, values: dict[bytes, bytes]) -> int:
    """One transaction of many puts, which the store itself never makes; its revision."""
    gateway = Gateway([etcd.url], clock=CLOCK)
    puts = tuple(Operation(request_put=Put(key, value)) for key, value in values.items())
    outcome, _ = Calls(gateway).txn(Txn((), puts, ()))
    gateway.close()
    assert outcome.succeeded
    return outcome.header.revision


def test_keys_that_share_a_revision_come_together_even_in_fragments(etcd: Etcd, store: EtcdStore) -> None:
    """With what stood before, two rounds of 1.2 MB make answers that etcd cuts."""
    start = store.revision()
    names = [b"/registry/wire/%d" % number for number in range(4)]
    revisions = [write_at_once(etcd, dict.fromkeys(names, letter * 300_000)) for letter in (b"a", b"b", b"c")]
    bursts: list[list[int]] = [[]]
    with store.watch("/registry/wire/", after=start) as items:
        for item in items:
            if isinstance(item, Change):
                bursts[-1].append(item.revision)
            elif item.revision >= revisions[-1]:
                break
            else:
                assert isinstance(item, Progress)
                bursts.append([])
    assert [one for burst in bursts for one in burst] == sorted(revisions * 4)
    assert all(burst.count(revision) in (0, 4) for burst in bursts for revision in revisions)


def test_keys_of_others_are_no_hindrance(etcd: Etcd, store: EtcdStore) -> None:
    with store.watch("/registry/others/", after=store.revision()) as items:
        write_at_once(etcd, {b"\xff\xfe not text": b"x", b"elsewhere": b"y"})
        revision = store.create("/registry/others/a", b"1")
        assert next(item for item in items if isinstance(item, Change)).revision == revision


def test_names_beyond_ascii_come_back_as_they_went(store: EtcdStore) -> None:
    store.create("/registry/wide/Grüße-世界", b"1")
    assert [entry.key for entry in store.list("/registry/wide/Grü").entries] == ["/registry/wide/Grüße-世界"]
    assert store.list("/registry/wide/Grh").entries == ()
