"""Fencing: the words and the time bounds on which the node's side and the control plane's side must agree. Pure.

A pod of a StatefulSet (or one annotated `labctl.dev/fencing`) on a silent node is released, that is, its object is
removed so that its identity may run elsewhere, only after proof that it no longer runs:

- `power`: a fence agent powered the machine off and saw it off. Holds for every fault of the machine.
- `self`: the node stops its fenced pods by itself before its Lease can be judged expired. Holds for a crash, a
  partition, a frozen kubelet and a hung container runtime, while clocks run at rates that differ by at most `DRIFT`;
  NOT for a machine that is paused as a whole: its clocks stop with it, and its pods run on after it is resumed, until
  the guard's next look.
- `none`: nothing is released; the pod stays Terminating as upstream.

Under `power` and `self` the kubelet fences itself; under `power` the control plane does not rely on it.

    the node's clock     sent ────────── term_after ── kill_after ─ dead_by │
    the control plane's     └ seen ────────────────────────────────────── grace: at the earliest, Unknown; then released

`sent` is when the node sent its last successful renewal, on CLOCK_BOOTTIME; `seen` is when the control plane saw it
arrive, on its own monotonic clock: never before `sent`. So the pods are dead `DRIFT` of a grace before a release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from labctl.kube.meta import ObjectMeta
from labctl.kube.timing import Profile

Mode = Literal["power", "self", "none"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT: Mode = "power"

ANNOTATION = "labctl.dev/fencing"  # of a pod or a node: one of MODES
PROMISE = "labctl.dev/self-fenced-pods"  # of a node's Lease: uids of the pods that it stops by itself, comma-separated
CONDITION = "labctl.dev/Fenced"  # of a Node: what is waited for, or done

DRIFT = 0.01  # by how much the rates of two machines' clocks may differ; quartz and a slewing NTP stay below 0.001
_KILL, _KILL_LEAST_S = 0.05, 0.4  # of the grace: for SIGKILL to be sent and to take effect
_STOP, _STOP_LEAST_S = 0.15, 0.5  # of the grace: between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds since the last successful renewal was sent: when fenced pods get SIGTERM, SIGKILL, and are dead."""

    term_after_s: float
    kill_after_s: float
    dead_by_s: float
    grace_s: float  # since a renewal was seen: before that nobody else may run the pod

    @classmethod
    def of(cls, profile: Profile) -> Bounds:
        """The bounds under a profile."""
        grace_s = profile.node_monitor_grace_s
        dead_by_s = grace_s * (1 - DRIFT)
        kill_after_s = dead_by_s - max(_KILL_LEAST_S, _KILL * grace_s)
        return cls(kill_after_s - max(_STOP_LEAST_S, _STOP * grace_s), kill_after_s, dead_by_s, grace_s)

    @property
    def watchdog_s(self) -> int:
        """The timeout of a hardware watchdog behind all this, in whole seconds; see agents/kubelet/guard.py."""
        return max(1, int(self.grace_s / 2))


def mode_of(pod: ObjectMeta, node_annotations: Mapping[str, str], default: Mode) -> Mode | None:
    """How a pod is fenced: by its own annotation, its node's, the lab's setting. None: it is not fencing's business."""
    own = _known(pod.annotations.get(ANNOTATION, ""))
    if own is not None:
        return own
    owner = pod.controller
    if owner is None or owner.kind != "StatefulSet" or not owner.api_version.startswith("apps/"):
        return None
    return _known(node_annotations.get(ANNOTATION, "")) or default


def promised(lease: ObjectMeta) -> frozenset[str]:
    """The uids of the pods that the holder of this Lease stops by itself."""
    return frozenset(filter(None, lease.annotations.get(PROMISE, "").split(",")))


def _known(text: str) -> Mode | None:
    return next((mode for mode in MODES if mode == text), None)
