"""Fixtures of the contract tests: a real etcd, plain and with mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certs import make_pki
from tests.etcd import Etcd


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One etcd for the whole session: use keys of your own, and leave it running."""
    server = Etcd(tmp_path_factory.mktemp("etcd") / "data")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def etcd_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """The same, speaking mutual TLS only."""
    folder = tmp_path_factory.mktemp("etcd-tls")
    pki = make_pki(folder)
    server = Etcd(folder / "data", tls=pki.client, server=pki.server)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """An etcd of the test's own, to kill, freeze and restart."""
    server = Etcd(tmp_path / "data")
    server.start()
    yield server
    server.kill()
