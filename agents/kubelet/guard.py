"""`python3 -m agents.kubelet.guard`: stops this node's fenced pods when its kubelet does not renew the Lease in time.

A process of its own, with its own systemd unit, that asks nobody: a frozen kubelet and a hung container runtime do not
hold it up. Behind it, where the machine has one, stands the kernel's watchdog, for pods of the mode `self` alone: it is
put off only while these are dead or still have time, so a guard that dies or cannot kill ends in a reset. Pods of the
mode `power` are not worth that: nobody relies on their being stopped, and a slow machine would be lost with them.
"""

from __future__ import annotations

import argparse
import logging
import sys

from agents.kubelet.cgroups import Cgroups
from agents.kubelet.enforcer import Enforcer
from agents.kubelet.fence_folder import DEFAULT, FenceFolder
from agents.kubelet.fencing import may_pet
from agents.kubelet.watchdog import DEVICE, Watchdog
from labctl.kube.fencing import Bounds
from labctl.kube.timing import PROFILES
from labctl.runtime import log
from labctl.runtime.clock import boottime_s
from labctl.runtime.loop import Stop

_log = logging.getLogger(__name__)


class Guard:
    """Looks again and again."""

    def __init__(self, enforcer: Enforcer, watchdog: Watchdog) -> None:
        self._enforcer, self._watchdog = enforcer, watchdog

    def step(self) -> float:
        """One look; seconds until the next."""
        folder, bounds = self._enforcer.folder, self._enforcer.bounds
        wait_s = self._enforcer.step().wake_after_s
        seen = self._enforcer.look()
        folder.watch(seen.now_s)
        relied = folder.relied()
        if not relied:
            self._watchdog.disarm()
        elif self._watchdog.arm():
            if may_pet(seen, bounds, alive=self._enforcer.alive(relied)):
                self._watchdog.pet()
            wait_s = min(wait_s, (bounds.dead_by_s - bounds.kill_after_s) / 2)  # it must not fire before our own kill
        return wait_s

    def run(self, stop: Stop) -> None:
        """Look until `stop`. A look that fails is no reason to put the watchdog off."""
        while not stop.is_set():
            wait_s = 0.1
            try:
                wait_s = self.step()
            except Exception:
                _log.exception("the guard stumbled")
            stop.wait_s(wait_s)
        self._watchdog.disarm()


def main() -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="agents.kubelet.guard", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=sorted(PROFILES), default="fast", help="the lab's timers (%(default)s)")
    parser.add_argument("--folder", default=DEFAULT, help="where kubelet and guard meet (%(default)s)")
    parser.add_argument("--cgroup-parent", default="/kubepods", help="the pods' control group (%(default)s)")
    parser.add_argument("--watchdog", default=DEVICE, help="the kernel's watchdog (%(default)s)")
    options = parser.parse_args()
    log.set_up(0, "text")
    bounds = Bounds.of(PROFILES[options.profile])
    enforcer = Enforcer(FenceFolder(options.folder), Cgroups(), bounds, boottime_s, options.cgroup_parent)
    Guard(enforcer, Watchdog(options.watchdog, bounds.watchdog_s)).run(Stop().install())
    return 0


if __name__ == "__main__":
    sys.exit(main())
