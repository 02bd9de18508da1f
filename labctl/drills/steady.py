"""Before the fault: the workload, the scene, and the steady state without which no drill begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from labctl.drills import identity, inspection, lives, views, workload
from labctl.drills.history import History
from labctl.drills.model import Drill, Facts, Options
from labctl.drills.records import Inspected, Probed, Scene
from labctl.drills.target import Target
from labctl.drills.workload import Image, Workload
from labctl.kube.errors import ServerError
from labctl.kube.resources import NODES, PODS
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError, UsageError


class NotSteady(LabError):
    """The lab is not in the state that a drill must start from; nothing was done to it."""


Tick = Callable[[tuple[str, ...]], None]  # shows what is waited for, pauses, raises Stopped when asked to


def why_impossible(drill: Drill, target: Target) -> str:
    """Why the drill's fault cannot exist on this provider, or on a lab of so few masters; "" where it can."""
    if (why := drill.impossible_on.get(target.provider)) or drill.masters <= 1:
        return why or ""
    found = sum(machine.role == "master" for machine in target.machines())
    if found >= drill.masters:
        return ""
    have = "there is one" if found == 1 else f"there are {found}"
    return (
        f"it needs {drill.masters} masters, for others to take over, and {have} (`labctl up --masters 3` makes three)"
    )


def check_possible(drill: Drill, target: Target) -> None:
    """UsageError where the drill's fault cannot exist here."""
    if why := why_impossible(drill, target):
        where = target.provider if target.provider in drill.impossible_on else f"lab {target.lab!r}"
        raise UsageError(f"{drill.name} cannot run on {where}: {why}")


def check_reachable(target: Target) -> None:
    """NotSteady where nobody answers as the lab's API: it is down."""
    try:
        target.client.list(NODES)
    except ServerError as error:
        raise NotSteady(
            f"lab {target.lab!r} is down, or its API cannot be reached: {error}",
            hint="`labctl status` shows its machines, `labctl up` brings it up again",
        ) from error


def await_workload(
    look: Callable[[], Inspected], found: Workload, tick: Tick, clock: Clock, deadline_s: float
) -> Inspected:
    """Wait until the nodes and the workload are as they should be; NotSteady says what is not."""
    end_s = clock.monotonic_s() + deadline_s
    while True:
        seen = look()
        wrong = inspection.blocking(seen, found)
        if not wrong:
            return seen
        if clock.monotonic_s() >= end_s:
            raise NotSteady(
                f"the lab is not in a steady state: {'; '.join(wrong[:3])}",
                hint="`labctl status` and `labctl kubectl -- get nodes,pods -o wide` show more",
            )
        tick(wrong)


def set_scene(target: Target, drill: Drill, options: Options, found: Workload) -> Scene:
    """Choose the victims; UsageError where the drill cannot have them."""
    found_nodes = {node.name: node for node in (views.node("NOW", raw) for raw in target.client.list(NODES).items)}
    nodes = tuple(sorted(found_nodes))
    seen = (views.pod("NOW", raw) for raw in target.client.list(PODS, found.namespace).items)
    pods = tuple(pod for pod in seen if found.covers(pod) and not pod.deleting)
    machines = {machine.name: machine.address for machine in target.machines()}
    masters = tuple(machine.name for machine in target.machines() if machine.role == "master")
    victims = drill.choose(Facts(nodes, pods, masters), options.nodes)
    if strange := [name for name in victims if name not in machines]:
        raise UsageError(f"node {strange[0]} is not a machine of this lab: its power is out of reach")
    answering = nodes if drill.victims_answer else tuple(name for name in nodes if name not in victims)
    if not answering:
        raise UsageError(
            f"{drill.name} strikes every node, and no request could be sent: no verdict would mean anything",
            hint="leave one alone (spare: 1), or say victims_answer: true where all are reached all along",
        )
    return Scene(
        nodes=nodes,
        victims=victims,
        namespace=found.namespace,
        deployment=found.deployment,
        service=found.service,
        selector=dict(found.selector),
        node_port=found.node_port,
        replicas=found.replicas,
        on_victims=sum(pod.node in victims for pod in pods),
        machines=machines,
        masters=masters,
        virtual_address=target.virtual_address,
        pod_networks={node.name: node.pod_cidr for node in found_nodes.values() if node.pod_cidr},
        identity=f"{found.namespace}/{identity.POD}" if drill.demand.stateful and options.stateful else "",
        fencing=drill.demand.stateful,
        log_on_disk=len(target.within_reach(nodes)) == len(nodes),
        answering=answering,
        slowness=target.slowness,
    )


def load_addresses(target: Target, scene: Scene) -> tuple[str, ...]:
    """Where requests go: the nodes that are reached all along."""
    return tuple(machine.address for machine in target.machines() if machine.name in scene.answering)


def await_identity(
    node_of: Callable[[], str],
    scene: Scene,
    history: Callable[[], History],
    tick: Tick,
    clock: Clock,
    deadline_s: float,
) -> None:
    """Wait until the StatefulSet takes records, on a node that the drill strikes; NotSteady says what is missing."""
    end_s = clock.monotonic_s() + deadline_s
    while not lives.taken(history()):
        if clock.monotonic_s() >= end_s:
            raise NotSteady(
                f"the lab is not in a steady state: {scene.identity} takes no records",
                hint=f"`kubectl describe pod -n {scene.namespace} {identity.POD}` may tell why; "
                "where the cluster cannot pull its image, --stateful-image names another",
            )
        tick((f"{scene.identity} to take records",))
    node = node_of()
    if scene.victims and node not in scene.victims:
        raise NotSteady(
            f"{scene.identity} was scheduled to {node or 'no node'}, and the drill strikes {', '.join(scene.victims)}",
            hint="make room there, or name other nodes with --node",
        )


def await_answers(
    history: Callable[[], History], rate_per_s: float, options: Options, tick: Tick, clock: Clock
) -> None:
    """Wait until every request of the last `steady_s` seconds succeeded; NotSteady tells how many did not."""
    end_s = clock.monotonic_s() + options.steady_deadline_s
    while True:
        now_s = clock.monotonic_s()
        recent = [probe for at_s, probe in history().of(Probed) if at_s >= now_s - options.steady_s]
        wrong = unanswered(recent, expected=round(rate_per_s * options.steady_s))
        if not wrong:
            return
        if now_s >= end_s:
            raise NotSteady(
                f"the lab is not in a steady state: {wrong}",
                hint="the service must answer at its node port on every node: `labctl logs NODE proxy` may tell why",
            )
        tick((wrong,))


def unanswered(recent: Sequence[Probed], *, expected: int) -> str:
    """What is wrong with the requests of a window that should hold `expected`; "" where nothing is. Pure."""
    failed = [probe for probe in recent if not probe.ok]
    if failed:
        return f"{len(failed)} of {len(recent)} requests failed ({failed[-1].error} via {failed[-1].via})"
    if len(recent) < expected * 0.9:
        return f"{len(recent)} of {expected} requests answered so far"
    return ""


def find_workload(
    target: Target, prepare_cleanup: Callable[[], None], image: Image | None = None
) -> tuple[Workload, str]:
    """The lab's labelled workload, else our own (`prepare_cleanup` runs before it is made); and a sentence."""
    try:
        found = workload.find(target.client)
        if found is not None:
            return found, f"the workload is {found.namespace}/{found.deployment}, {found.replicas} replicas"
        prepare_cleanup()
        made = workload.deploy(target.client, image)
    except msgspec.MsgspecError as error:
        raise LabError(f"the workload cannot be read: {error}") from error
    return made, f"no Deployment is labelled {workload.LABEL}: one of our own is made, and removed afterwards"
