"""One API server over a real etcd for the folder's kubectl tests, each in a namespace of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import clients
from tests.e2e.apiserver import ApiServer, Kubectl
from tests.etcd import Etcd


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder: Path = tmp_path_factory.mktemp("apiserver")
    etcd = Etcd(folder / "etcd")
    etcd.start()
    server = ApiServer(folder, etcd.url)
    try:
        yield server.start()
    finally:
        server.kill()
        etcd.kill()


@pytest.fixture(params=sorted(clients.WHEELS))
def kubectl(request: pytest.FixtureRequest, apiserver: ApiServer, tmp_path: Path) -> Iterator[Kubectl]:
    binary = clients.program("kubectl", request.param)
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    tool = Kubectl(binary, apiserver.admin, tmp_path, namespace)
    tool.run("create", "namespace", namespace)
    yield tool
    tool.run("delete", "namespace", namespace, "--wait=false")
