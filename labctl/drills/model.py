"""What a drill is: pure functions from the facts of a lab to victims, faults and bounds, and words for people.

A drill proposes; faults act (`faults.py`), the runner observes, checkers judge. A new drill is one file in
`catalog/` that exports `DRILL`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from labctl.drills.checkers import CHECKERS
from labctl.drills.contract import Bound
from labctl.drills.faults import Step
from labctl.drills.findings import Checker, Finding
from labctl.drills.measures import Measures
from labctl.drills.pace import patience
from labctl.drills.records import PodSeen, Scene
from labctl.drills.workload import IMAGE, Image
from labctl.kube.fencing import Mode
from labctl.kube.timing import Profile


class Verdict(StrEnum):
    """How a drill ended."""

    PASS = "pass"  # noqa: S105 - no password
    VIOLATED = "contract violated"
    NOT_INJECTED = "not injected"
    NOT_HEALED = "not healed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Facts:
    """What `Drill.choose` may look at: the nodes by name, the workload's pods, the masters' machines by name."""

    nodes: tuple[str, ...]
    pods: tuple[PodSeen, ...]
    masters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The load that a drill asks for."""

    rate_per_s: float | None = None  # HTTP requests; None: as the options say
    path: str = "/"
    writes_per_s: float | None = None  # sequenced records to the API; None: as the options say
    stateful: Mode | Literal[""] = ""  # to a StatefulSet as well, whose pod is fenced so; it runs on a victim at first


@dataclass(frozen=True, kw_only=True)
class Drill:
    """One scripted failure."""

    name: str
    title: str
    shows: str  # what one learns from it, a short paragraph
    steps: tuple[str, ...]  # what happens, in order
    choose: Callable[[Facts, Sequence[str]], tuple[str, ...]]  # victims; the second argument: nodes asked for by name
    faults: Callable[[Scene], tuple[Step, ...]]  # injected in this order, healed in reverse
    bounds: Callable[[Profile, Scene], tuple[Bound, ...]]  # what is measured, awaited and judged
    holds_s: Callable[[Profile], float] = lambda _: 0.0  # the heal comes no earlier than this after the first fault
    victims_answer: bool = False  # the victims are reached all along: they are looked into, and requests go by them too
    checkers: Mapping[str, tuple[str, Checker]] = field(default_factory=lambda: CHECKERS)
    impossible_on: Mapping[str, str] = field(default_factory=dict)  # provider -> why
    masters: int = 1  # so many the lab must have
    demand: Demand = Demand()
    text: str = ""  # of the file it was read from, if any


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run a drill; the defaults suit a lab."""

    nodes: tuple[str, ...] = ()  # victims asked for by name
    report_dir: Path | None = None  # copies of the report; the run's own folder has them anyway
    image: Image | None = None  # of a workload of our own; None: the one that every lab has
    log_image: str = IMAGE  # of the StatefulSet that a drill asks for: busybox, with httpd
    stateful: bool = True  # where a drill asks for a StatefulSet: needs an image of ours, and pods that really run
    rate_per_s: float = 20.0  # HTTP requests, to machines that are not slow
    writes_per_s: float = 2.0  # sequenced records, likewise
    request_s: float = 1.0  # a request's own timeout, on machines that are not slow
    steady_s: float = 3.0  # requests must succeed this long before the fault
    steady_deadline_s: float = 60.0
    settle_s: float = 3.0  # watched on after the last expectation, before the heal
    patience_s: float = 10.0  # beyond the latest bound before an expectation is given up
    heal_deadline_s: float = 180.0
    converge_deadline_s: float = 90.0
    sample_s: float = 3.0  # between looks into the machines while the fault lasts
    look_s: float = 1.0  # and while the lab converges

    def under(self, demand: Demand, slowness: float) -> Options:
        """With the rates that a drill asks for; where it asks for none, a load that slow machines can bear, too.

        A fault on an emulated machine is to be seen, not the want of processors for twenty requests a second.
        """
        share = 1.0 / patience(slowness)
        return replace(
            self,
            rate_per_s=demand.rate_per_s or share * self.rate_per_s,
            writes_per_s=demand.writes_per_s or share * self.writes_per_s,
        )


class Timed(msgspec.Struct, frozen=True):
    """One line of the timeline."""

    event: str
    t_s: float  # from the fault; before it negative


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A bound, what was measured, and whether it held."""

    measure: str
    title: str
    result: str  # pass, fail, unknown
    measured_s: float | None = None
    lower_s: float | None = None
    upper_s: float | None = None
    source: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `report.json` holds."""

    drill: str
    lab: str
    provider: str
    profile: str
    verdict: Verdict
    timeline: tuple[Timed, ...]
    measures: Measures
    invariants: Mapping[str, Finding]
    reasons: tuple[str, ...]  # of the verdict, a sentence each; empty on a pass
    contract: tuple[Judged, ...]
    started_at: str
    victims: tuple[str, ...]
    slowness: float
    version: str
    run_dir: str = ""

    @property
    def exit_code(self) -> int:
        """0 on a pass, 1 otherwise."""
        return 0 if self.verdict is Verdict.PASS else 1
