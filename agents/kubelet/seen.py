"""What the kubelet sees of one pod at one moment: a frozen snapshot, and the questions plan and status both ask of it.

Pure. Durations are on our monotonic clock; a container's own stamps (wall clock) are only subtracted from each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.kubelet.runtime import ContainerStatus, Sandbox
from agents.kubelet.views import Container, Pod
from labctl.kube.timing import Profile

STREAK = "labctl.io/restart-streak"  # restarts in a row that did not last; a label, so that it outlives our process
SANDBOX = "labctl.io/sandbox"  # which sandbox a container was started in
IMAGE = "labctl.io/image"  # as the pod named it when the container was started
GRACE = "labctl.io/grace-seconds"  # for when the pod's object is gone before its containers
LASTING_S = 600.0  # a container that ran this long starts with a clean record

SANDBOX_SLOT, VOLUMES_SLOT = "/sandbox", "/volumes"  # beside container names, which have no slash
EVICTED = "Evicted"
CONFIG_REASON = "CreateContainerConfigError"


@dataclass(frozen=True, slots=True)
class Failure:
    """An operation that failed `count` times in a row, last at `at_s`."""

    reason: str
    message: str
    count: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a container's probes say; `condemned` holds the message of the liveness or startup probe that gave up."""

    started: bool = True
    ready: bool = True
    condemned: str = ""
    grace_s: float | None = None  # the condemning probe's own termination grace


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why this node does not run the pod, e.g. OutOfcpu, or no longer runs it: Evicted, Terminated."""

    reason: str
    message: str
    grace_s: float | None = None  # at most so long between SIGTERM and SIGKILL; None: as the pod asks
    begins_s: float = 0.0  # no container is told to end before, on the clock of `Seen.now_s`
    disrupts: bool = False  # the pod had been taken before: told by the condition DisruptionTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One pod, as observed. Only containers and sandboxes of the pod's own uid are in it."""

    now_s: float
    sandbox: Sandbox | None = None
    containers: tuple[ContainerStatus, ...] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)  # by container id; absent: no probe has spoken
    failures: Mapping[str, Failure] = field(default_factory=dict)  # by container name, or one of the slots above
    exited_s: Mapping[str, float] = field(default_factory=dict)  # when we saw a container dead, by its id
    messages: Mapping[str, str] = field(default_factory=dict)  # termination messages, by container id
    starting: frozenset[str] = frozenset()  # names of containers whose start is under way
    stopping: Mapping[str, float] = field(default_factory=dict)  # ids being stopped, and by when at the latest
    busy: frozenset[str] = frozenset()  # other operations under way: sandbox, volumes, cleanup, delete, remove:<id>
    volumes_ready: bool = False
    clean: bool = False  # volumes and files are gone
    reported: bool = False  # the API has the status that follows from this snapshot
    network_ready: bool = True  # the node has its pod CIDR
    removed: bool = False  # a synced list no longer has the pod
    held: bool = False  # nothing of it may be started now: self-fencing
    spared: frozenset[str] = frozenset()  # ids of the containers that self-fencing stopped
    active_s: float = 0.0  # since the pod's startTime
    rejection: Rejection | None = None


def is_sidecar(container: Container) -> bool:
    """A restartable init container."""
    return container.restart_policy == "Always"


def of_name(seen: Seen, name: str) -> tuple[ContainerStatus, ...]:
    """Every container of that name, newest first."""
    found = (entry for entry in seen.containers if entry.name == name)
    return tuple(sorted(found, key=lambda entry: -entry.attempt))


def latest(seen: Seen, name: str) -> ContainerStatus | None:
    """The newest container of that name that was ever started."""
    return next((entry for entry in of_name(seen, name) if entry.phase != "created"), None)


def sandbox_id(seen: Seen) -> str:
    """What containers of the present sandbox are labelled with."""
    return "" if seen.sandbox is None else sandbox_label(seen.sandbox)


def sandbox_label(sandbox: Sandbox) -> str:
    """A sandbox's identity: a second one for the same pod has another."""
    return f"{sandbox.created_s:.3f}"


def is_current(seen: Seen, entry: ContainerStatus) -> bool:
    """Whether a container belongs to the present sandbox (a reboot makes a new one)."""
    return seen.sandbox is not None and entry.labels.get(SANDBOX, "") == sandbox_id(seen)


def should_restart(pod: Pod, container: Container, dead: ContainerStatus) -> bool:
    """Whether the restart policy asks for another try."""
    is_init = any(entry.name == container.name for entry in pod.spec.init_containers)
    if is_sidecar(container):
        return True
    policy = pod.spec.restart_policy
    if is_init:
        return policy != "Never" and failed(dead)
    return policy == "Always" or (policy == "OnFailure" and failed(dead))


def failed(dead: ContainerStatus) -> bool:
    """Whether it ended otherwise than with 0."""
    return dead.exit_code != 0 or dead.oom_killed


def streak_after(seen: Seen, dead: ContainerStatus) -> int:
    """The restart streak of the container that follows `dead`."""
    lasted_s = dead.finished_s - dead.started_s
    if lasted_s >= LASTING_S or not is_current(seen, dead):
        return 1
    return _streak(dead) + (dead.id not in seen.spared)


def crash_backoff_s(seen: Seen, dead: ContainerStatus, timing: Profile) -> float:
    """The whole delay between this exit and the next start: none, then the base, doubling to the cap."""
    streak = streak_after(seen, dead) - 1
    if streak <= 0 or dead.id in seen.spared:
        return 0.0
    return min(timing.restart_backoff_cap_s, timing.restart_backoff_s * 2.0 ** min(streak - 1, 30))


def restart_wait_s(seen: Seen, dead: ContainerStatus, timing: Profile) -> float:
    """What is left of that delay."""
    left_s = seen.exited_s.get(dead.id, seen.now_s) + crash_backoff_s(seen, dead, timing) - seen.now_s
    return max(0.0, left_s)


def retry_wait_s(seen: Seen, name: str, timing: Profile) -> float:
    """Seconds until a failed operation is tried again; what a user may mend any moment, at the base rate."""
    failure = seen.failures.get(name)
    if failure is None:
        return 0.0
    delay_s = timing.restart_backoff_s
    if failure.reason != CONFIG_REASON:
        delay_s = min(timing.restart_backoff_cap_s, delay_s * 2.0 ** min(failure.count - 1, 30))
    return max(0.0, failure.at_s + delay_s - seen.now_s)


def next_attempt(pod: Pod, seen: Seen, name: str) -> int:
    """Counts on from what the runtime still knows, else from what we last told the API."""
    known = [entry.attempt for entry in of_name(seen, name) if entry.phase != "created"]
    if known:
        return max(known) + 1
    for prior in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        if prior.name == name:
            return prior.restart_count + (1 if prior.container_id else 0)
    return 0


def verdict(seen: Seen, container: Container, entry: ContainerStatus) -> Verdict:
    """The probes' word on a running container; before they speak, an unprobed one is started and ready."""
    if entry.phase != "running":
        return Verdict(started=False, ready=False)
    if spoken := seen.verdicts.get(entry.id):
        return spoken
    started = container.startup_probe is None
    return Verdict(started=started, ready=started and container.readiness_probe is None)


def init_done(pod: Pod, seen: Seen) -> bool:
    """Whether the init phase of the present sandbox is over; a main container that runs proves as much."""
    for container in pod.spec.containers:
        entry = latest(seen, container.name)
        if entry is not None and (entry.phase == "running" or is_current(seen, entry)):
            return True
    return all(init_complete(seen, container) for container in pod.spec.init_containers)


def init_complete(seen: Seen, container: Container) -> bool:
    """Whether one init container of the present sandbox has done its part; a sidecar, once it has started."""
    entry = latest(seen, container.name)
    if entry is None or not is_current(seen, entry):
        return False
    if is_sidecar(container):
        return entry.phase == "running" and verdict(seen, container, entry).started
    return entry.phase == "exited" and not failed(entry)


def outcome(pod: Pod, seen: Seen) -> str:
    """`Succeeded` or `Failed` once no container will run again by the restart policy, else ""."""
    if pod.status.phase in {"Succeeded", "Failed"}:
        return pod.status.phase
    if seen.rejection is not None or deadline_passed(pod, seen):
        return "Failed"
    started = {container.name for container in pod.spec.containers if latest(seen, container.name)}
    for container in pod.spec.init_containers:
        dead = latest(seen, container.name)
        if started or dead is None or dead.phase != "exited":
            continue
        if failed(dead) and not should_restart(pod, container, dead):
            return "Failed"
    ended = [latest(seen, container.name) for container in pod.spec.containers]
    if not ended or any(entry is None or entry.phase != "exited" for entry in ended):
        return ""
    pairs = [(c, e) for c, e in zip(pod.spec.containers, ended, strict=True) if e is not None]
    if any(should_restart(pod, container, entry) for container, entry in pairs):
        return ""
    return "Failed" if any(failed(entry) for _, entry in pairs) else "Succeeded"


def alive(seen: Seen) -> bool:
    """Whether anything of the pod runs or is about to."""
    return bool(seen.starting) or any(entry.phase == "running" for entry in seen.containers)


def evicted(pod: Pod, seen: Seen) -> bool:
    """Whether the node gave the pod up for want of room."""
    return EVICTED in {pod.status.reason, seen.rejection.reason if seen.rejection else ""}


def deadline_passed(pod: Pod, seen: Seen) -> bool:
    """Whether activeDeadlineSeconds is over."""
    limit_s = pod.spec.active_deadline_seconds
    return limit_s is not None and seen.active_s >= limit_s


def _streak(entry: ContainerStatus) -> int:
    text = entry.labels.get(STREAK, "0")
    return int(text) if text.isdecimal() else 0


def next_word_s(seen: Seen, timing: Profile) -> float:
    """Seconds until a failed pull is told as ImagePullBackOff instead of ErrImagePull."""
    turns = (failure.at_s + timing.restart_backoff_s / 2 - seen.now_s for failure in seen.failures.values())
    return min((turn_s for turn_s in turns if turn_s > 0), default=float("inf"))
