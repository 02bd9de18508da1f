"""The pod lifecycle: from what is seen of a pod to what is done next. Pure: no clock, no network, no log.

A pass may propose several instructions; they run side by side and the next pass sees their effect. None is proposed
while the same one is under way. A crash between any two of them leads to the same end. Source of the behaviour:
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and k/k `pkg/kubelet/kuberuntime`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agents.kubelet import seen as look
from agents.kubelet.runtime import ContainerStatus
from agents.kubelet.seen import Seen
from agents.kubelet.views import Container, Pod
from labctl.kube.timing import Profile

FOREVER_S = 3600.0
MINIMUM_GRACE_S = 1.0
_KEPT_DEAD = 2  # the latest and the one before it: state and lastState, logs and previous logs


@dataclass(frozen=True, slots=True)
class MakeSandbox:
    """Give the pod its network namespace and address."""


@dataclass(frozen=True, slots=True)
class PrepareVolumes:
    """Bring the pod's volumes to the node; repeated while it runs, so that config maps and secrets follow."""


@dataclass(frozen=True, slots=True)
class Start:
    """Pull the image by its policy and start attempt `attempt` of a container."""

    name: str
    attempt: int
    streak: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Run the preStop hook (with `hook`), then SIGTERM, then SIGKILL after `grace_s` in all."""

    id: str
    name: str
    grace_s: float
    hook: bool
    why: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget a dead or never started container."""

    id: str


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    """Give address and namespace back."""


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Delete the pod's volumes and files."""


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Confirm the deletion to the API: grace 0, on condition of the uid."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing of the pod is left, here or in the API."""


Instruction = MakeSandbox | PrepareVolumes | Start | Stop | Remove | RemoveSandbox | CleanUp | DeletePod | Forget


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and when to look again even if nothing changes."""

    instructions: tuple[Instruction, ...] = ()
    wake_after_s: float = FOREVER_S


def plan(pod: Pod, seen: Seen, timing: Profile) -> Plan:
    """Propose the next steps for one pod."""
    if seen.removed or pod.terminating:
        return Plan(tuple(_delete(pod, seen)))
    if look.outcome(pod, seen):
        if seen.rejection is not None and seen.rejection.begins_s > seen.now_s:
            return Plan((), seen.rejection.begins_s - seen.now_s)
        return Plan((*_stop_all(pod, seen), *_give_back(pod, seen)))
    return _run(pod, seen, timing)


def grace_s(pod: Pod, seen: Seen) -> float:
    """The grace a container of this pod gets now."""
    asked = pod.metadata.deletion_grace_period_seconds if pod.terminating else None
    wanted_s = float(pod.spec.termination_grace_period_seconds if asked is None else asked)
    if seen.rejection is not None and seen.rejection.grace_s is not None:
        wanted_s = min(wanted_s, seen.rejection.grace_s)
    return max(MINIMUM_GRACE_S, wanted_s)


# -- the end of a pod


def _delete(pod: Pod, seen: Seen) -> Iterator[Instruction]:
    """Stop everything; when all is dead and reported, leave nothing; then confirm."""
    yield from _stop_all(pod, seen)
    if seen.starting or _running(seen) or "sandbox" in seen.busy or "volumes" in seen.busy:
        return
    if not seen.removed and not seen.reported:
        return
    yield from _remove(seen, seen.containers)
    if seen.sandbox is not None and "remove-sandbox" not in seen.busy:
        yield RemoveSandbox()
    if not seen.clean and "cleanup" not in seen.busy:
        yield CleanUp()
    if seen.containers or seen.sandbox is not None or not seen.clean or seen.busy:
        return
    yield Forget() if seen.removed else DeletePod()


def _give_back(pod: Pod, seen: Seen) -> Iterator[Instruction]:
    """A finished pod keeps its dead containers (for logs) and its volumes until it is deleted, but no address.

    One that was evicted keeps nothing: the node needs the room.
    """
    if look.alive(seen):
        return
    if seen.sandbox is not None and not seen.busy & {"sandbox", "remove-sandbox"}:
        yield RemoveSandbox()
    if seen.reported and look.evicted(pod, seen):
        yield from _remove(seen, seen.containers)
        if not seen.clean and not seen.busy & {"cleanup", "volumes"}:
            yield CleanUp()


def _stop_all(pod: Pod, seen: Seen) -> Iterator[Instruction]:
    """The main containers together; sidecars, last one first, once those are dead."""
    sidecars = [container.name for container in pod.spec.init_containers if look.is_sidecar(container)]
    mains = [entry for entry in _running(seen) if entry.name not in sidecars]
    if mains or seen.starting - set(sidecars):
        for entry in mains:
            yield from _stop(pod, seen, entry, grace_s(pod, seen), f"Stopping container {entry.name}")
        return
    for name in reversed(sidecars):
        alive = [entry for entry in _running(seen) if entry.name == name]
        for entry in alive:
            yield from _stop(pod, seen, entry, grace_s(pod, seen), f"Stopping container {entry.name}")
        if alive:
            return


def _stop(pod: Pod, seen: Seen, entry: ContainerStatus, within_s: float, why: str) -> Iterator[Stop]:
    """Stop it, unless that is under way and will be done as soon."""
    by_s = seen.stopping.get(entry.id)
    if by_s is not None and by_s <= seen.now_s + within_s + 0.5:
        return
    container = container_of(pod, entry.name)
    hooked = by_s is None and container is not None and container.lifecycle.pre_stop is not None
    yield Stop(entry.id, entry.name, within_s, hooked, why)


# -- a pod that runs


def _run(pod: Pod, seen: Seen, timing: Profile) -> Plan:
    tidy: list[Instruction] = list(_tidy(seen))
    if not seen.network_ready and not pod.spec.host_network:
        return Plan(tuple(tidy))
    if seen.sandbox is None:
        tidy += _stop_all(pod, seen)  # containers that outlived their network cannot be mended
        if _running(seen) or seen.starting:
            return Plan(tuple(tidy))
        return _set_up(pod, seen, timing, tidy)
    if not seen.volumes_ready:
        return _set_up(pod, seen, timing, tidy)
    begun: list[Instruction] = []
    wake_s = _deadline_s(pod, seen)
    for container in _due(pod, seen):
        step, wait_s = _advance(pod, seen, container, timing)
        begun += [step] if step is not None else []
        wake_s = min(wake_s, wait_s)
    return Plan((*tidy, *begun), wake_s)


def _set_up(pod: Pod, seen: Seen, timing: Profile, tidy: Iterable[Instruction]) -> Plan:
    """Sandbox and volumes, side by side; both are idempotent."""
    steps: list[Instruction] = list(tidy)
    wake_s = _deadline_s(pod, seen)
    if seen.sandbox is None and not seen.busy & {"sandbox", "remove-sandbox"}:
        wait_s = look.retry_wait_s(seen, look.SANDBOX_SLOT, timing)
        steps += [] if wait_s else [MakeSandbox()]
        wake_s = min(wake_s, wait_s or wake_s)
    if not seen.volumes_ready and not seen.busy & {"volumes", "cleanup"}:
        wait_s = look.retry_wait_s(seen, look.VOLUMES_SLOT, timing)
        steps += [] if wait_s else [PrepareVolumes()]
        wake_s = min(wake_s, wait_s or wake_s)
    return Plan(tuple(steps), wake_s)


def _due(pod: Pod, seen: Seen) -> Iterator[Container]:
    """The containers to look after now: sidecars up to the init container whose turn it is, or the mains."""
    done = look.init_done(pod, seen)
    for container in pod.spec.init_containers:
        entry = look.latest(seen, container.name)
        current = entry is not None and look.is_current(seen, entry)
        if look.is_sidecar(container):
            yield container
            started = current and entry is not None and look.verdict(seen, container, entry).started
            if not done and not started:
                return
        elif not done and not (current and entry is not None and entry.phase == "exited" and not look.failed(entry)):
            yield container
            return
    yield from pod.spec.containers


def _advance(pod: Pod, seen: Seen, container: Container, timing: Profile) -> tuple[Instruction | None, float]:
    """The next step for one container, or the seconds until there may be one."""
    if container.name in seen.starting:
        return None, FOREVER_S
    if seen.held and not any(entry.phase == "running" for entry in look.of_name(seen, container.name)):
        return None, FOREVER_S  # self-fencing rings when it may
    entry = look.latest(seen, container.name)
    if entry is not None and entry.phase == "running":
        return _condemn(pod, seen, container, entry), FOREVER_S
    wait_s = look.retry_wait_s(seen, container.name, timing)
    streak = 0
    if entry is not None:
        again = not look.is_current(seen, entry) and _is_init(pod, container)
        if not again and not look.should_restart(pod, container, entry):
            return None, FOREVER_S
        streak = look.streak_after(seen, entry)
        wait_s = max(wait_s, look.restart_wait_s(seen, entry, timing))
    if wait_s > 0:
        return None, wait_s
    if any(other.phase == "created" for other in look.of_name(seen, container.name)):
        return None, FOREVER_S  # _tidy removes it first
    return Start(container.name, look.next_attempt(pod, seen, container.name), streak), FOREVER_S


def _condemn(pod: Pod, seen: Seen, container: Container, entry: ContainerStatus) -> Stop | None:
    """Stop a container that its liveness or startup probe gave up on, or whose image was changed in the pod."""
    verdict = look.verdict(seen, container, entry)
    why = verdict.condemned
    if entry.labels.get(look.IMAGE, container.image) != container.image:
        why = f"Container {container.name} definition changed, will be restarted"
    if not why:
        return None
    within_s = grace_s(pod, seen) if verdict.grace_s is None else max(MINIMUM_GRACE_S, verdict.grace_s)
    return next(_stop(pod, seen, entry, within_s, why), None)


def _tidy(seen: Seen) -> Iterator[Instruction]:
    """Drop starts that a crash cut short, and dead containers beyond those kept; never the last of a name."""
    for name in sorted({entry.name for entry in seen.containers} - seen.starting):
        entries = look.of_name(seen, name)
        unborn = [entry for entry in entries if entry.phase == "created"]
        dead = [entry for entry in entries if entry.phase == "exited"]
        alive = sum(entry.phase == "running" for entry in entries)
        yield from _remove(seen, (*unborn, *dead[max(0, _KEPT_DEAD - alive) :]))


def _remove(seen: Seen, entries: Iterable[ContainerStatus]) -> Iterator[Remove]:
    return (Remove(entry.id) for entry in entries if f"remove:{entry.id}" not in seen.busy)


def all_dead(pod: Pod, seen: Seen) -> bool:
    """Whether a pod that is being deleted has nothing left that runs or is about to."""
    return pod.terminating and not look.alive(seen)


def _running(seen: Seen) -> list[ContainerStatus]:
    return [entry for entry in seen.containers if entry.phase == "running"]


def _deadline_s(pod: Pod, seen: Seen) -> float:
    """Seconds until activeDeadlineSeconds is over."""
    limit_s = pod.spec.active_deadline_seconds
    return FOREVER_S if limit_s is None else max(0.0, min(FOREVER_S, limit_s - seen.active_s))


def _is_init(pod: Pod, container: Container) -> bool:
    return any(entry.name == container.name for entry in pod.spec.init_containers)


def container_of(pod: Pod, name: str) -> Container | None:
    """The container or init container of that name."""
    return next((c for c in (*pod.spec.containers, *pod.spec.init_containers) if c.name == name), None)
