"""What the kubelet knows of its containers without asking containerd: their last state, a pidfd of each that runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from agents.kubelet.processes import is_dead, open_process
from agents.kubelet.runtime import ContainerStatus


@dataclass(slots=True)
class _Known:
    status: ContainerStatus
    fd: int = -1  # of its first process, while that runs


class Inventory:
    """Containers by id. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def put(self, status: ContainerStatus) -> bool:
        """Remember a container. False, and nothing is changed, where it is said to run but its process is dead."""
        fd = -1
        if status.phase == "running":
            fd = open_process(status.pid, cgroup_word=status.id)
            if fd < 0:
                return False
        with self._lock:
            old = self._known.get(status.id)
            self._known[status.id] = _Known(status, fd)
        if old is not None and old.fd >= 0:
            os.close(old.fd)
        return True

    def drop(self, container_id: str) -> ContainerStatus | None:
        """Forget a container; what was known of it."""
        with self._lock:
            known = self._known.pop(container_id, None)
        if known is not None and known.fd >= 0:
            os.close(known.fd)
        return known.status if known else None

    def get(self, container_id: str) -> ContainerStatus | None:
        """One container as last known."""
        with self._lock:
            known = self._known.get(container_id)
            return known.status if known else None

    def all(self) -> list[ContainerStatus]:
        """Every container as last known."""
        with self._lock:
            return [known.status for known in self._known.values()]

    def ended(self) -> list[str]:
        """Those whose process has died since they were last looked at."""
        with self._lock:
            return [identity for identity, known in self._known.items() if known.fd >= 0 and is_dead(known.fd)]

    def open(self, container_ids: Iterable[str]) -> list[int]:
        """A pidfd of each that runs, as far as known. The caller closes them."""
        with self._lock:
            found = [self._known[identity].fd for identity in container_ids if identity in self._known]
            return [os.dup(fd) for fd in found if fd >= 0]
