"""etcd fails in every way we know: what the store then promises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from master.store.etcd import EtcdStore
from master.store.protocol import KeyExists, Refused, RevisionMismatch, StoreError
from tests.certs import make_pki
from tests.contract.store.reading import Reader
from tests.etcd import Etcd, free_port
from tests.proxy import Proxy

pytestmark = pytest.mark.etcd

CLOCK = SystemClock()
AT = "/registry/t/"


def store_at(*urls: str, deadline_s: float = 10.0, attempt_s: float = 1.0) -> EtcdStore:
    return EtcdStore(urls, clock=CLOCK, deadline_s=deadline_s, attempt_s=attempt_s)


def seconds(action: Callable[[], object]) -> float:
    began_s = CLOCK.monotonic_s()
    action()
    return CLOCK.monotonic_s() - began_s


class Writer:
    """Creates keys one after the other until told to stop; knows which were acknowledged."""

    def __init__(self, store: EtcdStore, prefix: str) -> None:
        self.acknowledged: dict[str, int] = {}
        self.unknown: set[str] = set()
        self._store, self._prefix, self._stop = store, prefix, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            key = f"{self._prefix}{number:06}"
            try:
                self.acknowledged[key] = self._store.create(key, key.encode())
            except StoreError:
                self.unknown.add(key)


def test_a_kill_loses_no_acknowledged_write_and_leaves_no_gap_in_watches(own_etcd: Etcd) -> None:
    store = store_at(own_etcd.url)
    with Reader(store, AT, after=store.revision()) as reader:
        writer = Writer(store, AT)
        for _ in range(2):
            before = len(reader.changes)
            reader.until(lambda reader, before=before: len(reader.changes) > before + 50)  # type: ignore[misc]
            own_etcd.kill()
            own_etcd.start()
        before = len(reader.changes)
        reader.until(lambda reader: len(reader.changes) > before + 50)
        writer.stop()
        reader.until_revision(store.revision())
    stored = {entry.key: entry.revision for entry in store.list(AT).entries}
    assert writer.acknowledged.items() <= stored.items()
    assert stored.keys() <= writer.acknowledged.keys() | writer.unknown
    assert {change.key: change.revision for change in reader.changes} == stored
    assert [change.revision for change in reader.changes] == sorted(stored.values())
    store.close()


def test_cut_connections_lose_and_double_nothing(own_etcd: Etcd) -> None:
    with Proxy(own_etcd.port) as proxy:
        store = store_at(proxy.url)
        store.create(f"{AT}counter", b"0")
        done = [0, 0]  # acknowledged increments; those whose fate is unknown

        def increment(_: int) -> None:
            while True:
                try:
                    entry, _revision = store.get(f"{AT}counter")
                    assert entry is not None
                    store.update(f"{AT}counter", str(int(entry.value) + 1).encode(), expected=entry.revision)
                except RevisionMismatch:
                    continue
                except StoreError:
                    done[1] += 1
                else:
                    done[0] += 1
                return

        with Reader(store, AT, after=store.revision()) as reader, ThreadPoolExecutor(4) as pool:
            work = [pool.submit(increment, number) for number in range(300)]
            cuts = 0
            while not all(one.done() for one in work):
                cuts += proxy.cut()
                CLOCK.sleep_s(0.05)
            for one in work:
                one.result()
            reader.until_revision(store.revision())
        entry, _ = store.get(f"{AT}counter")
        assert entry is not None
        assert cuts > 10
        assert done[0] <= int(entry.value) <= sum(done)
        assert [change.value for change in reader.changes] == [str(n + 1).encode() for n in range(int(entry.value))]
        store.close()


def test_an_idle_connection_that_etcd_closed_is_not_used_again(own_etcd: Etcd) -> None:
    store = store_at(own_etcd.url)
    revision = store.create(f"{AT}a", b"1")
    own_etcd.kill()
    own_etcd.start()
    assert store.update(f"{AT}a", b"2", expected=revision) > revision
    store.close()


def test_a_frozen_etcd_costs_a_call_its_deadline_and_no_more(own_etcd: Etcd) -> None:
    store = store_at(own_etcd.url, deadline_s=1.0)
    revision = store.create(f"{AT}a", b"1")
    own_etcd.freeze()
    calls: tuple[Callable[[], object], ...] = (
        partial(store.get, f"{AT}a"),
        partial(store.update, f"{AT}a", b"2", expected=revision),
        partial(store.list, AT),
        store.revision,
    )
    for call in calls:
        began_s = CLOCK.monotonic_s()
        with pytest.raises(StoreError):
            call()
        assert 0.9 < CLOCK.monotonic_s() - began_s < 4.0
    own_etcd.thaw()
    wait_for(lambda: _answers(store), what="the thawed etcd", deadline_s=15, clock=CLOCK)
    store.close()


def _answers(store: EtcdStore) -> bool:
    try:
        return store.revision() > 0
    except StoreError:
        return False


def test_a_watch_outlives_a_freeze(own_etcd: Etcd) -> None:
    store = store_at(own_etcd.url, deadline_s=2.0)
    with Reader(store, AT, after=store.revision()) as reader:
        store.create(f"{AT}a", b"1")
        own_etcd.freeze()
        CLOCK.sleep_s(1.0)
        own_etcd.thaw()
        wait_for(lambda: _answers(store), what="the thawed etcd", deadline_s=15, clock=CLOCK)
        second = store.create(f"{AT}b", b"1")
        reader.until_revision(second)
    assert [change.key for change in reader.changes] == [f"{AT}a", f"{AT}b"]
    store.close()


def test_a_stopped_etcd_is_told_at_once_where_nothing_listens(own_etcd: Etcd) -> None:
    store = store_at(f"http://127.0.0.1:{free_port()}", deadline_s=0.5)
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        store.get(f"{AT}a")
    assert caught.value.hint
    store.close()


def test_the_next_endpoint_takes_over_from_one_that_refuses_or_is_silent(etcd: Etcd) -> None:
    with Proxy(etcd.port) as silent:
        silent.swallow(requests=True)
        store = store_at(f"http://127.0.0.1:{free_port()}", silent.url, etcd.url, attempt_s=1.5)
        assert seconds(lambda: store.get("/registry/failover")) < 6.0
        assert seconds(lambda: store.get("/registry/failover")) < 1.4  # it stays with the one that answered
        store.close()


def test_a_write_whose_answer_was_lost_is_never_told_as_done_or_refused_wrongly(etcd: Etcd) -> None:
    """The first try takes effect, its answer is swallowed; the second, at another endpoint, meets the first's work."""
    with Proxy(etcd.port) as deaf:
        store = store_at(deaf.url, etcd.url, attempt_s=0.5)
        deaf.swallow(answers=True)
        with pytest.raises(StoreError) as caught:
            store.create("/registry/lost/answer", b"x")
        assert not isinstance(caught.value, KeyExists | RevisionMismatch)
        entry, _ = store.get("/registry/lost/answer")
        assert entry is not None
        assert entry.value == b"x"
        store.close()


def test_a_write_that_never_arrived_is_made_at_another_endpoint(etcd: Etcd) -> None:
    with Proxy(etcd.port) as silent:
        store = store_at(silent.url, etcd.url, attempt_s=0.5)
        silent.swallow(requests=True)
        revision = store.create("/registry/lost/request", b"x")
        assert store.get("/registry/lost/request")[1] >= revision
        store.close()


def test_a_watch_leaves_an_endpoint_that_stopped_telling_changes(etcd: Etcd) -> None:
    with Proxy(etcd.port) as first:
        store = store_at(first.url, etcd.url, attempt_s=0.5)
        with Reader(store, "/registry/stall/", after=store.revision()) as reader:
            store.create("/registry/stall/a", b"1")
            reader.until(lambda reader: len(reader.changes) == 1)
            first.swallow(answers=True)
            store.revision()  # moves on to the endpoint that answers
            store.create("/registry/stall/b", b"1")
            reader.until(lambda reader: len(reader.changes) == 2, deadline_s=12)
        store.close()


def test_a_watch_notices_a_stall_even_when_others_write(etcd: Etcd) -> None:
    with Proxy(etcd.port) as first:
        store, other = store_at(first.url, etcd.url, attempt_s=0.5), store_at(etcd.url)
        with Reader(store, "/registry/stall2/", after=store.revision()) as reader:
            first.swallow(answers=True)
            other.create("/registry/stall2/a", b"1")
            reader.until(lambda reader: len(reader.changes) == 1, deadline_s=20)
        store.close()
        other.close()


def test_a_watch_that_was_compacted_away_while_cut_off_says_so(own_etcd: Etcd) -> None:
    with Proxy(own_etcd.port) as proxy:
        store, other = store_at(proxy.url), store_at(own_etcd.url)
        with Reader(store, AT, after=store.revision()) as reader:
            store.create(f"{AT}a", b"1")
            reader.until(lambda reader: len(reader.changes) == 1)
            proxy.refuse()
            proxy.cut()
            for name in "bcd":
                other.create(f"{AT}{name}", b"1")
            other.compact(other.revision())
            proxy.refuse(False)
            reader.until(lambda reader: reader.ended)
        assert type(reader.error).__name__ == "Compacted"
        with Reader(store, AT, after=store.list(AT).revision) as again:
            again.until_revision(store.create(f"{AT}e", b"1"))
        assert [change.key for change in again.changes] == [f"{AT}e"]
        store.close()
        other.close()


def test_a_store_restored_from_the_past_is_told_as_compacted(own_etcd: Etcd, tmp_path: Path) -> None:
    store = store_at(own_etcd.url)
    for number in range(5):
        store.create(f"{AT}{number}", b"1")
    with Reader(store, AT, after=store.revision()) as reader:
        store.create(f"{AT}last", b"1")
        reader.until(lambda reader: len(reader.changes) == 1)
        own_etcd.kill()
        own_etcd.data = tmp_path / "restored"
        own_etcd.start()
        reader.until(lambda reader: reader.ended)
    assert type(reader.error).__name__ == "Compacted"
    store.close()


def test_too_large_a_value_is_refused_for_its_size(etcd: Etcd) -> None:
    store = store_at(etcd.url)
    with pytest.raises(Refused) as caught:
        store.create("/registry/huge", b"x" * 2_000_000)
    assert caught.value.too_large
    store.close()


def fill(store: EtcdStore) -> None:
    for number in range(60):
        store.create(f"{AT}{number}", b"x" * 100_000)


def test_a_full_etcd_refuses_writes_and_says_why(tmp_path: Path) -> None:
    server = Etcd(tmp_path / "data", extra=("--quota-backend-bytes", str(2 << 20)))
    server.start()
    store = store_at(server.url, deadline_s=3.0)
    try:
        with pytest.raises(Refused, match="space exceeded") as caught:
            fill(store)
        assert "alarm disarm" in caught.value.hint
        assert store.list(AT, limit=1).entries  # reads go on
        assert "NOSPACE" in store.faults()[server.url]
    finally:
        store.close()
        server.kill()


def test_a_member_that_is_down_is_named_and_one_that_is_well_is_not(own_etcd: Etcd) -> None:
    store = store_at(own_etcd.url)
    assert store.faults() == {}
    own_etcd.kill()
    assert list(store.faults()) == [own_etcd.url]
    store.close()


def test_a_lease_that_etcd_forgot_is_replaced(own_etcd: Etcd, tmp_path: Path) -> None:
    store = store_at(own_etcd.url)
    store.create(f"{AT}a", b"1", ttl_s=100)
    own_etcd.kill()
    own_etcd.data = tmp_path / "fresh"
    own_etcd.start()
    store.create(f"{AT}b", b"1", ttl_s=100)
    assert [entry.key for entry in store.list(AT).entries] == [f"{AT}b"]
    store.close()


def test_a_client_certificate_of_another_authority_is_turned_away(etcd_tls: Etcd, tmp_path: Path) -> None:
    assert etcd_tls.tls is not None
    stranger = make_pki(tmp_path).client
    for tls in (stranger, type(stranger)(etcd_tls.tls.ca_file, stranger.cert_file, stranger.key_file)):
        store = EtcdStore([etcd_tls.url], clock=CLOCK, tls=tls, deadline_s=1.0)
        with pytest.raises(StoreError):
            store.get("/registry/secret")
        store.close()


def test_three_members_lose_their_leader_and_go_on(tmp_path: Path) -> None:
    members = [Etcd(tmp_path / name, name=name) for name in ("a", "b", "c")]
    cluster = {member.name: member.peer_url for member in members}
    for member in members:
        member.cluster = cluster
        member.launch()
    store = store_at(*(member.url for member in members), deadline_s=20.0)
    try:
        for member in members:
            member.wait_healthy()
        with Reader(store, AT, after=store.revision()) as reader:
            writer = Writer(store, AT)
            reader.until(lambda reader: len(reader.changes) > 30)
            members[0].freeze()  # the endpoint in use, maybe the leader
            before = len(reader.changes)
            reader.until(lambda reader: len(reader.changes) > before + 100, deadline_s=30)
            members[0].thaw()
            members[1].kill()
            before = len(reader.changes)
            reader.until(lambda reader: len(reader.changes) > before + 100, deadline_s=30)
            writer.stop()
            reader.until_revision(store.revision())
        stored = {entry.key: entry.revision for entry in store.list(AT).entries}
        assert writer.acknowledged.items() <= stored.items()
        assert [(change.key, change.revision) for change in reader.changes] == list(stored.items())
    finally:
        store.close()
        for member in members:
            member.kill()
