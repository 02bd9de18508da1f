"""Gives pods up while the node is short of something: one at a time, the next only when the last one's room is free.

The policy is in eviction.py; here it meets the pods, what they use, and their Events.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agents.kubelet.apply import about
from agents.kubelet.cgroups import Cgroups
from agents.kubelet.eviction import DISK, INODES, MEMORY, Candidate, Share, choose
from agents.kubelet.memory import Memory
from agents.kubelet.qos import pod_requests, requests
from agents.kubelet.roster import Facts
from agents.kubelet.runtime import ContainerStatus
from agents.kubelet.views import Pod
from labctl.kube.events import Recorder

_CLEANED_S = 30.0  # podCleanupTimeout: the next one goes even if the last one's remains do not
_MOST_FILES = 100_000  # of a pod are counted
_ENDED = frozenset({"Succeeded", "Failed"})


class Consumption(Protocol):
    """Measures pods."""

    def candidate(self, pod: Pod, running: Iterable[ContainerStatus], resource: str) -> Candidate:
        """What a pod uses, and asked for, of `memory`, `ephemeral-storage` or `inodes`."""
        ...


@dataclass(frozen=True, slots=True)
class NodeConsumption:
    """By control groups, and by the files of volumes and logs; what containers write into themselves is not counted."""

    cgroups: Cgroups
    parent: str
    root_dir: str
    log_dir: str

    def candidate(self, pod: Pod, running: Iterable[ContainerStatus], resource: str) -> Candidate:
        """See `Consumption`."""
        uid, priority = pod.metadata.uid, pod.spec.priority
        asked = pod_requests(pod).get(resource, 0)
        if resource == MEMORY:
            usage = self.cgroups.usage(f"{self.parent}/pod{uid}")
            used = None if usage is None else usage.working_set_bytes
            return Candidate(uid, priority, used, asked, tuple(self._shares(pod, running)))
        return Candidate(uid, priority, self._files(pod, count=resource == INODES), asked if resource == DISK else 0)

    def _shares(self, pod: Pod, running: Iterable[ContainerStatus]) -> Iterable[Share]:
        asked = {container.name: requests(container).get(MEMORY, 0) for container in pod.spec.containers}
        for entry in running:
            usage = self.cgroups.usage(f"{self.parent}/pod{pod.metadata.uid}/{entry.id}")
            if usage is not None:
                yield Share(entry.name, usage.working_set_bytes, asked.get(entry.name, 0))

    def _files(self, pod: Pod, *, count: bool) -> int:
        """Bytes on disk, or files; never those of another file system, which a volume may be."""
        uid, total, seen = pod.metadata.uid, 0, 0
        for top in (Path(self.root_dir, "pods", uid), *Path(self.log_dir).glob(f"*_{uid}")):
            try:
                device = top.stat().st_dev
            except OSError:
                continue
            for folder, folders, files in os.walk(top):
                folders[:] = [name for name in folders if _device(Path(folder, name)) == device]
                for name in files:
                    seen += 1
                    total += 1 if count else _size(Path(folder, name))
                if seen >= _MOST_FILES:
                    return total
        return total


class Evictor:
    """Used by the pod loop's thread."""

    def __init__(self, consumption: Consumption, recorder: Recorder) -> None:
        self._consumption, self._recorder = consumption, recorder
        self._looks = 0
        self._last: tuple[str, float] = "", 0.0  # who was given up last, and when

    def step(
        self,
        memories: Mapping[str, Memory],
        containers: Mapping[str, tuple[ContainerStatus, ...]],
        facts: Facts,
        now_s: float,
    ) -> bool:
        """Whether a pod was given up now. At most one for each look at the machine."""
        if not facts.short or facts.looks == self._looks:
            return False
        self._looks = facts.looks
        last, at_s = self._last
        if now_s - at_s < _CLEANED_S and last in memories and not _cleaned(memories[last], containers.get(last, ())):
            return False
        short = facts.short[0]
        candidates = [
            self._consumption.candidate(memory.pod, running, short.resource)
            for uid, memory in memories.items()
            if _active(memory) and (running := [one for one in containers.get(uid, ()) if one.phase == "running"])
        ]
        chosen = choose(short, candidates)
        if chosen is None:
            return False
        uid, rejection = chosen
        memories[uid].rejection = rejection
        self._last = uid, now_s
        self._recorder.warning(about(memories[uid].pod), rejection.reason, rejection.message)
        return True


def _active(memory: Memory) -> bool:
    return memory.rejection is None and not memory.removed and memory.pod.status.phase not in _ENDED


def _cleaned(memory: Memory, containers: Collection[ContainerStatus]) -> bool:
    return memory.clean and not any(entry.phase == "running" for entry in containers)


def _device(path: Path) -> int:
    try:
        return path.lstat().st_dev
    except OSError:
        return -1


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0
