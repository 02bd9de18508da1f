"""The fixture of this folder; see `harness`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop
from master.apiserver import bootstrap
from master.apiserver.app import Server
from master.apiserver.authz.rbac import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from master.apiserver.server import make_context
from master.store.memory import MemoryStore
from tests.unit.master.apiserver.harness import CONFIG, Api, soon


@pytest.fixture
def api() -> Iterator[Api]:
    stop = Stop()
    store = MemoryStore(SystemClock())
    context = make_context(CONFIG, store, stop)
    bootstrap.run(context)
    for resource in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS):
        context.storage.current(context.registry.of(resource))  # what was just granted counts, on a busy machine too
    made = Api(Server(context))
    soon(lambda: made.as_user("somebody").get("/version"), 200)  # the default roles have reached the authorizer
    yield made
    stop.set()
    store.close()
