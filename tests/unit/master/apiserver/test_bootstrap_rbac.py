"""The default policy is written whole, in few writes, and leaves what others wrote alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.loop import Stop
from master.apiserver import bootstrap_rbac, policy
from master.apiserver.context import Context
from master.apiserver.server import make_context
from master.store.memory import MemoryStore
from tests.unit.master.apiserver.harness import CONFIG

ROLES = "/registry/rbac.authorization.k8s.io/clusterroles/"


class Raced(MemoryStore):
    """Another API server makes each object of `first` right before we would."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.first: dict[str, bytes] = {}

    def create_all(self, values: Any) -> int:
        for key in self.first.keys() & values.keys():
            self.create(key, self.first[key])
        return super().create_all(values)


@pytest.fixture
def store() -> Iterator[Raced]:
    store = Raced(SystemClock())
    yield store
    store.close()


@pytest.fixture
def context(store: Raced) -> Iterator[Context]:
    stop = Stop()
    yield make_context(CONFIG, store, stop)
    stop.set()


def names(store: Raced) -> set[str]:
    return {entry.key.rpartition("/")[2] for entry in store.list("/registry/rbac.authorization.k8s.io/").entries}


def wanted() -> set[str]:
    return {document["metadata"]["name"] for document in (*policy.default_roles(), *policy.default_bindings())}


def test_the_default_policy_is_written_in_few_writes_and_once(store: Raced, context: Context) -> None:
    before = store.revision()
    bootstrap_rbac.run(context)
    written = store.revision() - before
    assert names(store) == wanted()
    assert written <= len(wanted()) / 10
    bootstrap_rbac.run(context)
    assert store.revision() - before == written


def test_what_another_api_server_wrote_meanwhile_stays_and_the_rest_is_written(store: Raced, context: Context) -> None:
    theirs = b'{"metadata":{"name":"view"},"rules":[]}'
    store.first = {f"{ROLES}view": theirs}
    bootstrap_rbac.run(context)
    entry, _ = store.get(f"{ROLES}view")
    assert entry is not None
    assert entry.value == theirs
    assert names(store) == wanted()
