"""The store under test: each implementation in turn, and a corner of its key space for each test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from labctl.runtime.clock import SystemClock
from master.store.etcd import EtcdStore
from master.store.memory import MemoryStore
from master.store.protocol import Store
from tests.etcd import Etcd

_NUMBERS = count(1)


@pytest.fixture(
    params=["memory", pytest.param("etcd", marks=pytest.mark.etcd), pytest.param("tls", marks=pytest.mark.etcd)]
)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Each store in turn."""
    made: Store
    if request.param == "memory":
        made = MemoryStore(SystemClock())
    else:
        server: Etcd = request.getfixturevalue("etcd" if request.param == "etcd" else "etcd_tls")
        made = EtcdStore([server.url], clock=SystemClock(), tls=server.tls)
    yield made
    made.close()


@pytest.fixture
def at() -> str:
    """A prefix that no other test uses, e.g. `/registry/t1/`."""
    return f"/registry/t{next(_NUMBERS)}/"
