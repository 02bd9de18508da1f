"""What kubelet and guard tell each other about fencing: small files under /run, gone with the machine's power.

confirmed        when the last successful renewal was sent, seconds of CLOCK_BOOTTIME
guard            when the guard last looked
pods/<uid>       a fenced pod, there before its first container
relied/<uid>     the control plane may release it because we stop it (mode `self`); the watchdog is for these alone
sealed/<uid>     it was stopped; no container of it may live until the kubelet has asked the API about it again
"""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT = "/run/labctl/fencing"


class FenceFolder:
    """See the module. Every change is one atomic step; losing the folder costs restarts, never a doubled pod."""

    def __init__(self, root: str | Path = DEFAULT) -> None:
        self._root = Path(root)
        for name in ("pods", "relied", "sealed"):
            (self._root / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def confirm(self, sent_s: float) -> None:
        """A renewal that was sent at `sent_s` has succeeded."""
        self._write("confirmed", sent_s)

    def confirmed_s(self) -> float | None:
        """When the last successful renewal was sent."""
        return self._read("confirmed")

    def watch(self, now_s: float) -> None:
        """The guard is looking."""
        self._write("guard", now_s)

    def watched_s(self) -> float | None:
        """When the guard last looked."""
        return self._read("guard")

    def pods(self) -> frozenset[str]:
        """The uids of the fenced pods."""
        return frozenset(os.listdir(self._root / "pods"))

    def relied(self) -> frozenset[str]:
        """The uids of those that are released because this node stops them."""
        return frozenset(os.listdir(self._root / "relied"))

    def sealed(self) -> frozenset[str]:
        """The uids of the stopped ones."""
        return frozenset(os.listdir(self._root / "sealed"))

    def register(self, uid: str) -> None:
        """A pod is fenced from now on."""
        (self._root / "pods" / uid).touch(mode=0o600)

    def rely(self, uid: str) -> None:
        """From now on somebody may rely on its being stopped."""
        (self._root / "relied" / uid).touch(mode=0o600)

    def seal(self, uid: str) -> None:
        """It was stopped."""
        (self._root / "sealed" / uid).touch(mode=0o600)

    def unseal(self, uid: str) -> None:
        """It may run again."""
        (self._root / "sealed" / uid).unlink(missing_ok=True)

    def forget(self, uid: str) -> None:
        """Nothing is left of it."""
        for name in ("sealed", "relied", "pods"):
            (self._root / name / uid).unlink(missing_ok=True)

    def _write(self, name: str, value_s: float) -> None:
        fresh = self._root / f".{name}"
        fresh.write_text(f"{value_s:.6f}", encoding="ascii")
        os.replace(fresh, self._root / name)

    def _read(self, name: str) -> float | None:
        try:
            return float((self._root / name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
