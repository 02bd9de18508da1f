"""Control groups are removed whole, and before the record by which whoever comes next would find them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.kubelet.cgroups import Cgroups
from agents.kubelet.nerdctl import NerdctlRuntime
from agents.kubelet.nerdctl_cli import Settings
from agents.kubelet.network import PodNetwork
from agents.kubelet.runtime import PodRef, RuntimeFailure
from labctl.runtime.clock import FakeClock
from labctl.runtime.shell import LocalShell

PATH = "/kubepods/poda"
POD = PodRef(uid="a", namespace="default", name="web")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two hierarchies of version 1, a pod with one container in each."""
    for controller in ("cpu", "memory"):
        (tmp_path / "cgroup" / controller / PATH[1:] / "container").mkdir(parents=True)
    return tmp_path / "cgroup"


def occupy(root: Path) -> Path:
    """A file in a plain folder keeps it from being removed, as a process does a cgroup."""
    busy = root / "memory" / PATH[1:] / "container" / "process"
    busy.touch()
    return busy


def test_a_group_goes_with_what_is_below_it_from_every_hierarchy(root: Path) -> None:
    assert Cgroups(root).remove(PATH)
    assert [path.name for path in root.glob("*/kubepods/*")] == []
    assert Cgroups(root).remove(PATH)  # it is gone: as good


def test_one_with_processes_is_left_and_said_to_be(root: Path) -> None:
    occupy(root)
    assert not Cgroups(root).remove(PATH)
    assert [path.parts[-3] for path in root.glob("*/kubepods/*")] == ["memory"]


class Network(PodNetwork):
    """Notes what groups there were when it gave a pod's address back."""

    def __init__(self, root: Path) -> None:
        self.root, self.removed = root, list[list[str]]()

    def remove(self, pod: PodRef) -> None:
        self.removed.append([path.name for path in self.root.glob(f"*/kubepods/pod{pod.uid}")])


def test_a_sandbox_is_on_record_until_its_groups_are_gone(root: Path, tmp_path: Path) -> None:
    network = Network(root)
    settings = Settings(work_dir=str(tmp_path / "work"))
    runtime = NerdctlRuntime(LocalShell(), network, FakeClock(), settings, Cgroups(root))
    busy = occupy(root)
    with pytest.raises(RuntimeFailure, match="/kubepods/poda still has processes"):
        runtime.remove_sandbox(POD)
    assert network.removed == []
    busy.unlink()
    runtime.remove_sandbox(POD)
    assert network.removed == [[]]
