"""proxy.json: every fault is told with file and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.proxy.config import Config
from labctl.kube.component import load
from labctl.runtime.errors import UsageError

GOOD = {
    "kubeconfig": "/etc/labctl/proxy.kubeconfig",
    "node_name": "w1",
    "node_ip": "10.0.0.1",
    "cluster_cidr": "10.244.0.0/16",
    "service_cidr": "10.96.0.0/12",
    "profile": "kubernetes",
}


def written(folder: Path, **changes: Any) -> str:
    path = folder / "proxy.json"
    path.write_bytes(
        msgspec.json.encode({key: value for key, value in {**GOOD, **changes}.items() if value is not None})
    )
    return str(path)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    found = load(written(tmp_path), Config)
    assert (found.node_name, found.timing.proxy_min_sync_s) == ("w1", 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"node_ip": "10.0.0"}, "node_ip"),
        ({"cluster_cidr": "10.244.0.1/16"}, "cluster_cidr"),
        ({"service_cidr": None}, "service_cidr"),
        ({"profile": "slow"}, "profile"),
        ({"more": 1}, "more"),
    ],
)
def test_a_fault_is_told_with_file_and_field(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"proxy.json: .*{words}") as failure:
        load(written(tmp_path, **changes), Config)
    assert failure.value.exit_code == 2


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json: No such file"):
        load(str(tmp_path / "none.json"), Config)
