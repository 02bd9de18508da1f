"""Which API servers the Service `kubernetes` leads to, as they come, stop and die."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import msgspec
import pytest

from labctl.kube.errors import NotFound
from labctl.kube.resources import ENDPOINT_SLICES, Resource, builtin
from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.loop import Stop, wait_for
from master.apiserver import bootstrap
from master.apiserver.api_endpoints import ApiLease, endpoints_of, serving, slice_of
from master.apiserver.context import Context
from master.apiserver.server import make_context
from master.store.memory import MemoryStore
from tests.unit.master.apiserver.harness import CONFIG


@pytest.fixture
def context() -> Iterator[Context]:
    stop = Stop()
    store = MemoryStore(SystemClock())
    made = make_context(CONFIG, store, stop)
    bootstrap.run(made)
    yield made
    stop.set()
    store.close()


def published(context: Context, resource: Resource) -> object:
    return msgspec.json.decode(context.storage.get(context.registry.of(resource), "default", "kubernetes").raw)


def test_a_server_that_no_longer_renews_is_gone_once_its_time_is_over() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    one, other = ApiLease(store, "10.9.0.10", 5), ApiLease(store, "10.9.0.11", 5)
    one.renew()
    other.renew()
    assert serving(store) == ("10.9.0.10", "10.9.0.11")
    clock.advance(4)
    one.renew()
    clock.advance(2)
    assert serving(store) == ("10.9.0.10",)
    other.renew()
    assert serving(store) == ("10.9.0.10", "10.9.0.11")
    store.close()


def test_a_server_that_came_back_takes_up_the_key_of_its_former_process() -> None:
    store = MemoryStore(FakeClock())
    ApiLease(store, "10.9.0.10", 5).renew()
    again = ApiLease(store, "10.9.0.10", 5)
    again.renew()
    again.renew()
    assert serving(store) == ("10.9.0.10",)
    again.withdraw()
    assert serving(store) == ()
    store.close()


def test_slice_and_endpoints_follow_who_serves_and_are_never_emptied(context: Context) -> None:
    for addresses in (("10.9.0.10", "10.9.0.11"), ("10.9.0.11",)):
        bootstrap.publish(context, addresses)
        for resource, fields in (
            (ENDPOINT_SLICES, slice_of(addresses, CONFIG.port)),
            (builtin("endpoints"), endpoints_of(addresses, CONFIG.port)),
        ):
            document = published(context, resource)
            assert isinstance(document, dict)
            assert {name: document[name] for name in fields} == fields
    before = published(context, ENDPOINT_SLICES)
    bootstrap.publish(context, ())
    assert published(context, ENDPOINT_SLICES) == before


def test_nothing_is_written_where_nothing_changed(context: Context) -> None:
    bootstrap.publish(context, ("10.9.0.10",))
    revision = context.storage.store.revision()
    bootstrap.publish(context, ("10.9.0.10",))
    assert context.storage.store.revision() == revision


def test_a_server_is_an_endpoint_while_it_serves_and_the_last_one_stays_when_it_stops(context: Context) -> None:
    store = context.storage.store
    ApiLease(store, "10.9.0.99", 60).renew()  # another one, that lives on
    keeper = threading.Thread(target=bootstrap.keep_endpoints, args=(context,))
    keeper.start()

    def addresses() -> list[str]:
        entries = published(context, ENDPOINT_SLICES)
        assert isinstance(entries, dict)
        return [entry["addresses"][0] for entry in entries["endpoints"]]

    def both() -> bool:
        with contextlib.suppress(NotFound):
            return addresses() == ["10.9.0.99", CONFIG.advertise_address]
        return False

    wait_for(both, what="both servers", deadline_s=30, clock=SystemClock())
    context.stop.set()
    keeper.join(30)
    assert serving(store) == ("10.9.0.99",)
