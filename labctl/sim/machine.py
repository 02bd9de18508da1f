"""A node's machine: its clock, its containers, its power. Containers outlive the kubelet; nothing outlives the power.

Operations of the container runtime take time, more of it on a slow disk, and go on when the kubelet that asked dies.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agents.kubelet import spec
from agents.kubelet.apply import Hands, Tools
from agents.kubelet.apply import Machine as Figures
from agents.kubelet.env import Surroundings
from agents.kubelet.fake import FakeRuntime
from agents.kubelet.observer import Observer
from agents.kubelet.plan import Start, container_of
from agents.kubelet.runtime import ContainerSpec, ContainerStatus, PodRef, RuntimeFailure, Sandbox
from agents.kubelet.views import Pod
from labctl.runtime.chance import Generator
from labctl.runtime.loop import Wake
from labctl.sim.hub import Call, Hub, Process, SimClock

IMAGES = ("lab.local/web:1", "lab.local/web:2", "lab.local/db:1")
NODE_IPS = {f"w{number}": f"10.0.0.{10 + number}" for number in range(1, 10)}


@dataclass(slots=True)
class RunFiles:
    """What kubelet and guard keep under /run; see agents/kubelet/fence_folder.py."""

    confirmed_s: float | None = None
    watched_s: float | None = None
    fenced: set[str] = field(default_factory=set)
    relied: set[str] = field(default_factory=set)
    sealed: set[str] = field(default_factory=set)


class Machine:
    """See the module. `changed` hears of every container that starts or ends; `rate` is its clock's."""

    def __init__(self, hub: Hub, name: str, rng: Generator, rate: float = 1.0) -> None:
        self.hub, self.name, self.clock, self.rng = hub, name, SimClock(hub, rate), rng
        self.ip = NODE_IPS[name]
        self.on, self.paused = True, False
        self.powerless_until_s = 0.0  # nobody can start it before that
        self.run = RunFiles()
        self.on_reset: Callable[[], None] = lambda: None  # its watchdog has fired
        self._reset_s: float | None = None  # when that happens, on its own clock
        self._ticking = False
        self.slow_s = 0.0  # what a slow disk adds to each operation at most
        self.boots = 1
        self.starting = 0  # containers that are being started by whatever kubelet
        self.changed: Callable[[Machine, ContainerStatus], None] = lambda _machine, _status: None
        self.runtime = SimRuntime(self)
        self.volumes: set[str] = set()
        self._held: list[Call] = []

    def after(self, seconds: float, call: Call) -> None:
        """Call later, if this boot lasts so long; while the machine is paused nothing happens on it."""
        boots = self.boots

        def due() -> None:
            if boots != self.boots or not self.on:
                return
            if self.paused:
                self._held.append(due)
            else:
                call()

        self.hub.after(seconds, due)

    def resume(self, lost_s: float = 0.0) -> None:
        """Go on after a pause, during which its clock stood still for `lost_s`."""
        self.paused = False
        self.clock.lost_s += lost_s
        held, self._held = self._held, []
        for call in held:
            self.hub.after(0.0, call)

    def power_off(self) -> None:
        """Everything that runs is gone."""
        self.on = self.paused = False
        self.boots += 1
        self.starting = 0
        self.run, self._reset_s, self._ticking = RunFiles(), None, False
        self._held.clear()
        self.runtime.reboot()

    def reset_in(self, seconds: float | None) -> None:
        """Have the watchdog reset the machine so much later, or not (None)."""
        self._reset_s = None if seconds is None else self.clock.monotonic_s() + seconds
        if self._reset_s is not None and not self._ticking:
            self._tick()

    def _tick(self) -> None:
        self._ticking = self._reset_s is not None
        if self._reset_s is None:
            return
        left_s = self._reset_s - self.clock.monotonic_s()
        if left_s <= 0:
            self._ticking = False
            self.on_reset()
        else:
            self.after(max(left_s, 0.001) / self.clock.rate, self._tick)

    def lasts_s(self) -> float:
        """How long an operation of the runtime takes."""
        return 0.02 + 0.15 * self.rng.random() + self.slow_s * self.rng.random()


class SimRuntime(FakeRuntime):
    """The fake runtime, with operations that take their time, and that tells of what happens."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.clock, images=IMAGES)
        for end in (self._bell_r, self._bell_w):
            os.close(end)
        self._machine = machine
        self.rang = Wake()

    def start(self, spec: ContainerSpec) -> str:
        """See `ContainerRuntime`."""
        machine, begin = self._machine, super().start
        machine.starting += 1

        def act(done: Callable[[Any], None]) -> None:
            machine.starting -= 1
            done(_try(partial(begin, spec)))

        return str(self._take_time(act, machine.lasts_s()))

    def stop(self, container_id: str, *, grace_s: float) -> None:
        """See `ContainerRuntime`; a container that ignores SIGTERM is killed after its grace."""
        entry, end = self._entries.get(container_id), super().stop
        ignores = entry is not None and entry.script.ignores_term
        if entry is not None and ignores:
            entry.script = type(entry.script)(term_exit_code=137)
        wait_s = grace_s if ignores else min(grace_s, 0.3 * self._machine.rng.random())
        self._take_time(
            lambda done: done(_try(partial(end, container_id, grace_s=grace_s))), wait_s + self._machine.lasts_s()
        )

    def _take_time(self, act: Callable[[Callable[[Any], None]], None], lasts_s: float) -> Any:
        process = self._machine.hub.current()
        return process.ask(lambda done: self._machine.after(lasts_s, lambda: act(done)))

    def _begin(self, spec: ContainerSpec) -> str:
        identity = super()._begin(spec)
        entry = self._entries[identity]
        self._machine.changed(self._machine, entry.status)
        self._await_end(identity)
        self._ring()
        return identity

    def _end(self, entry: Any, code: int, *, oom_killed: bool = False) -> None:
        super()._end(entry, code, oom_killed=oom_killed)
        self._machine.changed(self._machine, entry.status)
        self._ring()

    def make_sandbox(self, pod: PodRef, *, host_network: bool, host_ports: Sequence[tuple[int, int, str]]) -> Sandbox:
        """See `ContainerRuntime`; every node has addresses of its own."""
        made = super().make_sandbox(pod, host_network=host_network, host_ports=host_ports)
        if made.address.startswith("10.244.0."):
            address = f"10.244.{self._machine.ip.rpartition('.')[2]}.{made.address.rpartition('.')[2]}"
            made = self._sandboxes[pod.uid] = dataclasses.replace(made, address=address)
        return made

    def live(self, uid: str) -> list[ContainerStatus]:
        """The containers of a pod that run now."""
        return [status for status in self.statuses() if status.pod.uid == uid and status.phase == "running"]

    def signal(self, container_id: str, code: int) -> None:
        """End a container with this exit code, where it still runs."""
        entry = self._entries.get(container_id)
        if entry is not None and entry.status.phase == "running":
            self.kill(container_id, exit_code=code)

    def statuses(self) -> list[ContainerStatus]:
        """Every container as it was last known; nothing happens by looking."""
        return [entry.status for entry in self._entries.values()]

    def _await_end(self, identity: str) -> None:
        """Look when it should end by itself, by the machine's clock."""
        entry = self._entries.get(identity)
        if entry is None or entry.ends_at_s is None or entry.status.phase != "running":
            return
        left_s = entry.ends_at_s - self._clock.monotonic_s()
        if left_s <= 0:
            self.containers()
        else:
            self._machine.after(left_s / self._machine.clock.rate + 0.001, lambda: self._await_end(identity))

    def _ring(self) -> None:
        self.rang.ring()
        self.on_ring()

    def on_ring(self) -> None:
        """Replaced by whoever waits for `rang`."""


def _try(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except RuntimeFailure as error:
        return error


class SimObserver(Observer):
    """An observer without a thread: `loop` runs in the kubelet's process."""

    def __init__(self, machine: Machine, process: Process, on_change: Callable[[], None]) -> None:
        super().__init__(machine.runtime, on_change=on_change)
        for end in (self._wake_r, self._wake_w):
            os.close(end)
        self._machine, self._process = machine, process
        machine.runtime.on_ring = process.poke  # type: ignore[method-assign]

    def ask(self) -> int:
        """See `Observer`."""
        self._machine.runtime.rang.ring()
        return self._begun + 1

    def loop(self) -> None:
        """List whenever something happened, once no earlier kubelet is starting anything any more."""
        while self._machine.starting:
            self._process.sleep(0.1)
        while True:
            self.observe()
            self._process.sleep(0.005)
            self._process.wait(self._machine.runtime.rang, 60.0)


class SimHands(Hands):
    """The kubelet's hands, without files: volumes are a set of uids."""

    def __init__(self, tools: Tools, figures: Figures, machine: Machine) -> None:
        super().__init__(tools, figures)
        self._node = machine

    def prepare_volumes(self, pod: Pod) -> None:
        """See `Hands`."""
        self._node.volumes.add(pod.metadata.uid)

    def start(self, pod: Pod, step: Start, sandbox: Sandbox) -> None:
        """See `Hands`."""
        container = container_of(pod, step.name)
        assert container is not None
        around = Surroundings(pod_ip=sandbox.address, host_ip=self.machine.node_ip)
        parts = spec.Parts(sandbox=sandbox, attempt=step.attempt, streak=step.streak, around=around, volumes={})
        self._tools.runtime.start(spec.build(pod, container, parts))

    def clean_up(self, pod: Pod) -> None:
        """See `Hands`."""
        self._node.volumes.discard(pod.metadata.uid)

    def kept_pods(self) -> frozenset[str]:
        """See `Hands`."""
        return frozenset(self._node.volumes)

    def termination_message(self, pod: Pod, name: str, attempt: int) -> str:
        """None is left."""
        del pod, name, attempt
        return ""


class NoVolumes:
    """`Volumes` that nobody asks."""

    def prepare(self, pod: Pod) -> Mapping[str, str]:
        """See `Volumes`."""
        del pod
        return {}

    def remove(self, pod_uid: str) -> None:
        """See `Volumes`."""

    def pods(self) -> frozenset[str]:
        """See `Volumes`."""
        return frozenset()
