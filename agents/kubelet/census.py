"""What runs on the node, learnt from nerdctl as rarely as can be: a list at first, then only what ended is looked at.

nerdctl's word is not taken for everything: of a container that "runs" while its process is dead, and of one that a
power cut left as if it had never started, the node knows better.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agents.kubelet import nerdctl_cli as cli
from agents.kubelet.cgroups import Cgroups
from agents.kubelet.inventory import Inventory
from agents.kubelet.nerdctl_call import Nerdctl, failure, text_of, unreachable
from agents.kubelet.runtime import ContainerStatus, RuntimeFailure
from labctl.runtime.clock import Clock

_RELIST_S = 300.0  # only strangers change what we don't see; they are noticed after this long


class Census:
    """The node's containers in an `Inventory`, kept true. Safe to share between threads."""

    def __init__(self, nerdctl: Nerdctl, cgroups: Cgroups, clock: Clock) -> None:
        self.inventory = Inventory()
        self._nerdctl, self._settings, self._cgroups, self._clock = nerdctl, nerdctl.settings, cgroups, clock
        self._listing = threading.Lock()  # one list at a time
        self._listed_s: float | None = None
        self._doubt = False
        self._stop_signals: dict[str, str] = {}  # by image

    def take(self) -> Sequence[ContainerStatus]:
        """Every container. Free of cost while nothing ended."""
        with self._listing:
            if self._listed_s is None or self._doubt or self._clock.monotonic_s() - self._listed_s > _RELIST_S:
                self._relist()
            if ended := self.inventory.ended():
                self.inspect(ended)
        return self.inventory.all()

    def take_once(self) -> None:
        """See that there has been a list at all."""
        if self._listed_s is None:
            self.take()

    def doubt(self) -> None:
        """A start failed in a way that may have left something: the next look is a list."""
        self._doubt = True

    def started(self, status: ContainerStatus) -> None:
        """A container was started just now."""
        self._mark(status)
        if not self.inventory.put(status):
            self.inspect([status.id])  # it has ended already

    def inspect(self, identities: Sequence[str]) -> None:
        """Learn the state of some containers, giving containerd a moment to notice the end of dead ones."""
        for tries_left in range(20, -1, -1):
            output = self._nerdctl.call(["inspect", *identities], check=False)
            if output.code and unreachable(output.stderr):
                raise failure(output.stderr, reason="ContainerRuntimeNotReady")
            found = {status.id: status for status in map(cli.status_of, cli.entries_of(output.stdout)) if status}
            for gone in set(identities).difference(found):
                self.inventory.drop(gone)
            identities = [status.id for status in found.values() if not self._learn(status, final=tries_left == 0)]
            if not identities:
                return
            self._clock.sleep_s(0.05)

    def stop_signal(self, status: ContainerStatus) -> int:
        """The signal by which a container asks to be stopped: its image's, else SIGTERM."""
        if status.image not in self._stop_signals:
            with contextlib.suppress(RuntimeFailure):
                self.inspect([status.id])
        word = self._stop_signals.get(status.image, "SIGTERM").upper()
        if word.isdigit():
            return int(word)
        return int(getattr(signal, word if word.startswith("SIG") else f"SIG{word}", signal.SIGTERM))

    def _relist(self) -> None:
        listed = self._nerdctl.call(
            ["ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={cli.POD_UID}"]
        ).stdout.split()
        known = {status.id for status in self.inventory.all()}
        for identity in known.difference(listed):
            self.inventory.drop(identity)
        if unknown := [identity for identity in listed if identity not in known]:
            self.inspect(unknown)
        self._listed_s, self._doubt = self._clock.monotonic_s(), False

    def _learn(self, status: ContainerStatus, *, final: bool) -> bool:
        """Remember what containerd says; False where it "runs" though its process is dead, unless that is `final`."""
        if found := status.labels.get(cli.STOP_SIGNAL):
            self._stop_signals[status.image] = found
        if status.phase == "running":
            if self.inventory.put(status):
                self._mark(status)
                return True
            if not final:
                return False
            status = cli.lost(status, seen_s=self._clock.now().timestamp())
        elif status.phase == "created" and (began := text_of(self._marker(status.id))):
            # Without the mark its start was cut short; with it, the machine went down under it.
            status = cli.lost(status, started_s=float(began), seen_s=self._clock.now().timestamp())
        cgroup = f"{cli.pod_cgroup(self._settings, status.pod.uid)}/{status.id}"
        return self.inventory.put(replace(status, oom_killed=self._cgroups.oom_kills(cgroup) > 0))

    def _mark(self, status: ContainerStatus) -> None:
        """Leave word, for after a power cut, that this container did start."""
        marker = self._marker(status.id)
        if not marker.exists():
            with contextlib.suppress(OSError):
                marker.write_text(str(status.started_s), encoding="ascii")

    def _marker(self, container_id: str) -> Path:
        """A file in nerdctl's own folder for the container, which goes with it; a path to nowhere if there is none."""
        folders = Path(self._settings.data_root).glob(f"*/containers/{self._settings.namespace}/{container_id}")
        return next(folders, Path("/nonexistent")) / "labctl-started"
