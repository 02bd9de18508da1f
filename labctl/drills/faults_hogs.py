"""Pods that eat a node up: its memory, its processors, its disk. Each is a real one, and real room is gone.

The last step to the kubelet's threshold is taken slowly, so that it can see it coming before the kernel must act.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from labctl.drills import guests
from labctl.drills.actions import Action, Inside, inside
from labctl.drills.faults import OnNode
from labctl.drills.pace import stretched_s
from labctl.drills.target import Target
from labctl.kube.errors import ApiError
from labctl.kube.resources import NODES
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import wait_for

MEMORY_HOG, DISK_HOG, CPU_HOG, MODEST = (f"labctl-drill-{name}" for name in ("eater", "filler", "spinner", "modest"))
LEFT_OUT = "left out"
_MIB = 2**20
_THRESHOLD_MIB, _MARGIN_MIB = 100, 96
_GULP_MIB, _SIP_MIB = 32, 16
_DISK_SHARE, _DISK_MARGIN_MIB, _DISK_SIP_MIB = 0.10, 192, 32
_PRESSURE_S = 60.0
_BALLAST = "/var/lib/labctl/drill-ballast"
# The limit of the control group that the machine sees as its root, what is used of it, and what the kernel has left.
_MEMORY = """
root=/sys/fs/cgroup; stat=$root/memory.stat
if test -e $root/memory/memory.stat; then
  stat=$root/memory/memory.stat; limit=$(cat $root/memory/memory.limit_in_bytes)
  used=$(cat $root/memory/memory.usage_in_bytes); cache=$(sed -n 's/^total_inactive_file //p' $stat)
else
  limit=$(cat $root/memory.max 2>/dev/null || echo max); used=$(cat $root/memory.current 2>/dev/null || echo 0)
  cache=$(sed -n 's/^inactive_file //p' $stat)
fi
test "$limit" = max && limit=9223372036854775807
echo $limit $((used - ${cache:-0})) $(($(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo) * 1024))
"""
_EAT = """
eat() {{ {{ head -c $1 /dev/zero; sleep 86400; }} | tail -c $1 > /dev/null & }}
n=0; while [ $n -lt {gulps} ]; do eat {gulp}; n=$((n + 1)); usleep 100000; done
while :; do eat {sip}; sleep {pause_s}; done
"""
_SPIN = "n=0; while [ $n -lt 4 ]; do while :; do :; done & n=$((n + 1)); done; wait"
_FILL = """
n=0
while :; do dd if=/dev/zero of=/data/$n bs=1048576 count={sip} 2>/dev/null; n=$((n + 1)); sleep {pause_s}; done
"""


@dataclass(frozen=True, slots=True)
class _Hog(OnNode):
    """What they share: pods on a node, and a condition of the node by which they are seen."""

    namespace: str

    def _under(self, target: Target, condition: str, clock: Clock) -> tuple[bool, str]:
        """Whether the node says so in time."""

        def told() -> bool:
            with contextlib.suppress(ApiError):  # an API server that is late for once is asked again
                found = (target.client.get(NODES, self.node).get("status") or {}).get("conditions") or ()
                return any(one["type"] == condition and one["status"] == "True" for one in found)
            return False

        deadline_s = stretched_s(_PRESSURE_S, target.slowness) + 4 * target.profile.node_status_s
        wait_for(told, what=f"{condition} of {self.node}", deadline_s=deadline_s, clock=clock)
        return True, f"{self.node} is under {condition}"


@dataclass(frozen=True, slots=True)
class EatCpu(_Hog):
    """A pod that asked for nothing and takes every processor it can get."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"eat the processors of {self.node}"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        return guests.removals(self.namespace, (CPU_HOG,))

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        guests.place(target, self.namespace, (guests.guest(CPU_HOG, self.node, ("sh", "-c", _SPIN)),))

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """It runs."""
        guests.await_running(target, self.namespace, (CPU_HOG,), clock)
        return True, f"{CPU_HOG} runs on {self.node}"


@dataclass(frozen=True, slots=True)
class EatMemory(_Hog):
    """A pod that asked for nothing and eats on until it is stopped, beside one that keeps to what it asked for."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"eat the memory of {self.node}"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        return guests.removals(self.namespace, (MODEST, MEMORY_HOG))

    def inject(self, target: Target) -> None:
        """As much as leaves a margin at once, then slowly. Never on a container that could eat its host's memory."""
        limit, used, available = map(int, inside(target, self.node, _MEMORY).split())
        if limit < 2**60:
            available = min(available, limit - used)
        elif target.provider == "lxc":
            raise LabError(f"{self.node} has no memory limit of its own: this would eat the memory of its host")
        gulps = max(0, available // _MIB - _THRESHOLD_MIB - _MARGIN_MIB) // _GULP_MIB
        pause_s = max(1, round(target.profile.node_status_s * target.slowness / 2))
        eat = _EAT.format(gulps=gulps, gulp=_GULP_MIB * _MIB, sip=_SIP_MIB * _MIB, pause_s=pause_s)
        modest = guests.guest(MODEST, self.node, ("sleep", "86400"), memory="16Mi")
        guests.place(target, self.namespace, (modest, guests.guest(MEMORY_HOG, self.node, ("sh", "-c", eat))))

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """The node says that it is short."""
        return self._under(target, "MemoryPressure", clock)


@dataclass(frozen=True, slots=True)
class FillDisk(_Hog):
    """A file takes most of the disk, then a pod the rest, until it is stopped."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"fill the disk of {self.node}"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        if self._shared(target):
            return ()
        ballast = Inside(node=self.node, script=f"rm -f {_BALLAST}", what=f"free the disk of {self.node}")
        return (ballast, *guests.removals(self.namespace, (DISK_HOG,)))

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        if self._shared(target):
            return
        free = "df --output=size,avail -B1M /var/lib/labctl | tail -1"
        whole_mib, free_mib = map(int, inside(target, self.node, free).split())
        ballast_mib = free_mib - int(whole_mib * _DISK_SHARE) - _DISK_MARGIN_MIB
        if ballast_mib > 0:
            inside(target, self.node, f"fallocate -l {ballast_mib}M {_BALLAST}", timeout_s=120.0)
        fill = _FILL.format(sip=_DISK_SIP_MIB, pause_s=max(1, round(target.slowness)))
        hog = guests.guest(DISK_HOG, self.node, ("sh", "-c", fill), volume=True)
        guests.place(target, self.namespace, (hog,))

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """The node says that it is short; or why no drill may fill this disk."""
        if self._shared(target):
            return True, f"{LEFT_OUT}: a system container has no disk of its own, this would fill its host's"
        return self._under(target, "DiskPressure", clock)

    def _shared(self, target: Target) -> bool:
        return target.provider == "lxc"
