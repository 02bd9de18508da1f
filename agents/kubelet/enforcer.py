"""Carries out self-fencing through control groups alone: no kubelet loop, no container runtime, no API is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agents.kubelet.cgroups import Cgroups
from agents.kubelet.fence_folder import FenceFolder
from agents.kubelet.fencing import Seen, decide
from labctl.kube.fencing import Bounds

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stepped:
    """When to look again at the latest, and the uids of the pods that were sealed at the end of a step."""

    wake_after_s: float
    sealed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Enforcer:
    """Looks, decides, ends pods. The kubelet's and the guard's may work side by side."""

    folder: FenceFolder
    cgroups: Cgroups
    bounds: Bounds
    now_s: Callable[[], float]  # CLOCK_BOOTTIME
    parent: str = "/kubepods"

    def look(self) -> Seen:
        """What there is to decide on."""
        pods, sealed = self.folder.pods(), self.folder.sealed()
        confirmed_s = self.folder.confirmed_s()
        return Seen(self.now_s(), confirmed_s, pods, sealed)

    def step(self) -> Stepped:
        """One look and what follows from it."""
        seen = self.look()
        orders = decide(seen, self.bounds)
        for uid in sorted(orders.terminate):
            self.cgroups.terminate(self._path(uid))
        self.end(orders.kill - seen.sealed)
        sealed = self.folder.sealed()
        for uid in sorted(orders.kill & sealed):  # one unsealed since the look may live
            self._kill(uid)
        return Stepped(orders.wake_after_s, sealed)

    def end(self, uids: Iterable[str]) -> None:
        """Seal, then kill, so that a start under way finds the seal or the kill."""
        for uid in sorted(uids):
            self.folder.seal(uid)
            self._kill(uid)

    def _kill(self, uid: str) -> None:
        if killed := self.cgroups.kill(self._path(uid)):
            _log.warning("a fenced pod was stopped", extra={"kv": {"uid": uid, "processes": killed}})

    def alive(self, uids: Iterable[str]) -> bool:
        """Whether any process of these pods is left."""
        return any(self.cgroups.members(self._path(uid)) for uid in uids)

    def _path(self, uid: str) -> str:
        return f"{self.parent}/pod{uid}"
