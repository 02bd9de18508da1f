"""Which tests may run beside each other: `make test` and `make unit` spread them over the processors (pytest-xdist).

Without `-n` nothing changes but the order: what needs the whole host comes last.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Machines, containers and drills: they share this host's bridges, rules and containerd, and drills are judged by times.
_ALONE = (
    "tests/contract/provider/",
    "tests/contract/runtime/",
    "tests/e2e/drills/",
    "tests/e2e/test_kubelet_containerd.py",
    "tests/e2e/test_lab_",
    "tests/e2e/test_streams.py",
    "tests/vm/",
)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """One worker runs a file, in order, for its tests share servers; and one worker all that needs the whole host."""

    def _split_scope(self, nodeid: str) -> str:
        return "the whole host" if nodeid.startswith(_ALONE) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Instead of what `--dist` names."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the whole host comes last: by then nobody else is at work."""
    items.sort(key=lambda item: item.nodeid.startswith(_ALONE))
