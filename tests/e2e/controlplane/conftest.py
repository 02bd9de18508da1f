"""One control plane for the folder's tests, each of which uses names of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.controlplane.plane import Plane


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    """API server, scheduler and controllers, running."""
    with Plane(tmp_path) as running:
        yield running
