from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.provider.world import World, worlds

EVERY = [
    pytest.param("fake", id="fake"),
    pytest.param("lxc", id="lxc", marks=pytest.mark.lxc),
    pytest.param("vagrant", id="vagrant", marks=[pytest.mark.vm, pytest.mark.timeout(900)]),
]
REAL = EVERY[1:]


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One lab for a module's tests, under each provider that the module asks for."""
    yield from worlds(request.param, tmp_path_factory.mktemp("lab"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "world" in metafunc.fixturenames:
        real = getattr(metafunc.module, "REAL_MACHINES", False)
        metafunc.parametrize("world", REAL if real else EVERY, indirect=True, scope="module")
