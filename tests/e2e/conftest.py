"""What real clients run against: one API server over a real etcd, and a small cluster where controllers act.

Each test has a namespace of its own; kubectl's tests run with every version of `tests.e2e.clients`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e import clients
from tests.e2e.apiserver import ApiServer, Kubectl, Tool
from tests.e2e.controlplane.plane import Plane
from tests.etcd import Etcd


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server alone: nothing acts on what is stored."""
    with _served(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server of the test's own, over an etcd of its own."""
    with _served(tmp_path) as running:
        yield running


@contextmanager
def _served(folder: Path) -> Iterator[ApiServer]:
    etcd = Etcd(folder / "etcd")
    etcd.start()
    server = ApiServer(folder, etcd.url)
    try:
        yield server.start()
    finally:
        server.kill()
        etcd.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """API server, scheduler and controllers, with two nodes that mark their pods ready without running them."""
    with Plane(tmp_path_factory.mktemp("cluster")) as running:
        for name in ("n1", "n2"):
            running.node(name)
        yield running


@pytest.fixture(params=sorted(clients.WHEELS))
def version(request: pytest.FixtureRequest) -> str:
    """The clients' version: the Kubernetes minor they belong to."""
    return str(request.param)


@pytest.fixture
def kubectl(version: str, apiserver: ApiServer, tmp_path: Path) -> Iterator[Kubectl]:
    """kubectl on the API server alone."""
    with _namespaced(version, apiserver.admin, tmp_path) as tool:
        yield tool


@pytest.fixture
def live(version: str, cluster: Plane, tmp_path: Path) -> Iterator[Kubectl]:
    """kubectl on the small cluster."""
    with _namespaced(version, cluster.folder / "admin.kubeconfig", tmp_path) as tool:
        yield tool


@pytest.fixture
def helm(version: str, live: Kubectl) -> Tool:
    """helm, in the namespace of `live`: 3.17 comes beside kubectl 1.32, 4.3 beside 1.37."""
    return Tool(clients.program("helm", version), live.kubeconfig, live.home, live.namespace)


@contextmanager
def _namespaced(version: str, kubeconfig: Path, home: Path) -> Iterator[Kubectl]:
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    tool = Kubectl(clients.program("kubectl", version), kubeconfig, home, namespace)
    tool.run("create", "namespace", namespace)
    yield tool
    tool.run("delete", "namespace", namespace, "--wait=false")
