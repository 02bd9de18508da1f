"""The fixture of this folder; see `cluster`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.master.controllers.cluster import Cluster, open_cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with open_cluster() as opened:
        yield opened
