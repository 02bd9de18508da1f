"""A container runtime in memory: no process, no network, an injected clock. For tests and the simulation.

Containers follow a `Script` set for their name, else what a few well-known commands would do (`true`, `false`,
`sleep N`, `sh -c 'exit N'`); everything else runs until stopped. It passes the same contract tests as nerdctl, and
keeps count of what must never happen: two running containers of one (pod, name).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import select
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.kubelet.runtime import (
    ContainerSpec,
    ContainerStatus,
    ExecResult,
    Image,
    PodRef,
    RuntimeFailure,
    Sandbox,
)
from labctl.runtime.clock import Clock

_KILLED, _TERMINATED, _LOST = 137, 143, 255
_TICK_S = 0.05


@dataclass(frozen=True, slots=True)
class Script:
    """What a container does: end with `exit_code` after `lasts_s` (never, where None)."""

    lasts_s: float | None = None
    exit_code: int = 0
    oom_killed: bool = False
    ignores_term: bool = False
    term_exit_code: int = _TERMINATED


@dataclass(slots=True)
class _Entry:
    status: ContainerStatus
    spec: ContainerSpec
    script: Script
    ends_at_s: float | None  # on the monotonic clock


class FakeRuntime:
    """See the module. Safe to share between threads."""

    def __init__(self, clock: Clock, *, images: Iterable[str] = (), registry: Iterable[str] = ()) -> None:
        self._clock = clock
        self._images, self._registry = set(images), set(registry)
        self._entries: dict[str, _Entry] = {}
        self._sandboxes: dict[str, Sandbox] = {}
        self._scripts: dict[str, list[Script]] = {}
        self._exec: dict[str, ExecResult] = {}
        self._failures: dict[str, list[RuntimeFailure]] = {}
        self._lock = threading.RLock()
        self._serial = 0
        self._bell_r, self._bell_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.doubled: list[str] = []  # "uid/name" of every container started beside a running one

    # -- for the test that holds it

    def behave(self, name: str, *scripts: Script) -> None:
        """Containers called `name` follow these, one an attempt, the last one ever after."""
        self._scripts[name] = list(scripts)

    def answer(self, name: str, result: ExecResult) -> None:
        """What an exec in containers called `name` gives."""
        self._exec[name] = result

    def fail(self, call: str, *failures: RuntimeFailure) -> None:
        """Let the next calls of a method fail, once each."""
        self._failures.setdefault(call, []).extend(failures)

    def add_image(self, name: str) -> None:
        """As if it had been loaded."""
        self._images.add(name)

    def kill(self, container_id: str, *, exit_code: int = _KILLED) -> None:
        """The container's process dies by itself."""
        with self._lock:
            self._end(self._entries[container_id], exit_code)
        self._ring()

    def reboot(self) -> None:
        """The machine restarts: processes and network namespaces are gone, containers' records stay."""
        with self._lock:
            self._settle()
            for entry in self._entries.values():
                if entry.status.phase == "running":
                    self._end(entry, _LOST)
            self._sandboxes.clear()
        self._ring()

    def running(self) -> list[ContainerStatus]:
        """The containers that run now."""
        return [entry for entry in self.containers() if entry.phase == "running"]

    def spec_of(self, container_id: str) -> ContainerSpec:
        """What a container was started with."""
        return self._entries[container_id].spec

    # -- ContainerRuntime

    def version(self) -> str:
        """See `ContainerRuntime`."""
        self._maybe_fail("version")
        return "fake://1"

    def images(self) -> Sequence[Image]:
        """See `ContainerRuntime`."""
        return [Image((name,), f"sha256:{abs(hash(name)):064x}", 1_000_000) for name in sorted(self._images)]

    def pull(self, image: str) -> None:
        """See `ContainerRuntime`; finds what `registry` holds."""
        self._maybe_fail("pull")
        if image not in self._registry:
            raise RuntimeFailure(f'failed to resolve reference "{image}": not found', reason="ErrImagePull")
        self._images.add(image)

    def sandboxes(self) -> Sequence[Sandbox]:
        """See `ContainerRuntime`."""
        with self._lock:
            return list(self._sandboxes.values())

    def make_sandbox(
        self,
        pod: PodRef,
        *,
        host_network: bool,
        host_ports: Sequence[tuple[int, int, str]],  # noqa: ARG002 - nothing listens here
    ) -> Sandbox:
        """See `ContainerRuntime`."""
        self._maybe_fail("make_sandbox")
        with self._lock:
            if pod.uid not in self._sandboxes:
                self._serial += 1
                address = "" if host_network else f"10.244.0.{self._serial % 250 + 2}"
                path = "" if host_network else f"/run/netns/{pod.uid}"
                # A serial in the milliseconds: two sandboxes within a second are told apart.
                made_s = float(int(self._clock.now().timestamp())) + self._serial % 1000 / 1000
                self._sandboxes[pod.uid] = Sandbox(pod, address, path, made_s)
            return self._sandboxes[pod.uid]

    def remove_sandbox(self, pod: PodRef) -> None:
        """See `ContainerRuntime`."""
        self._maybe_fail("remove_sandbox")
        with self._lock:
            self._sandboxes.pop(pod.uid, None)

    def containers(self) -> Sequence[ContainerStatus]:
        """See `ContainerRuntime`."""
        self._maybe_fail("containers")
        with self._lock:
            self._settle()
            return [entry.status for entry in self._entries.values()]

    def start(self, spec: ContainerSpec) -> str:
        """See `ContainerRuntime`."""
        self._maybe_fail("start")
        if spec.image not in self._images:
            raise RuntimeFailure(f'Container image "{spec.image}" is not present', reason="ErrImageNeverPull")
        with self._lock:
            self._settle()
            for entry in self._entries.values():
                if entry.status.pod.uid == spec.pod.uid and entry.status.name == spec.name:
                    if entry.status.attempt == spec.attempt:
                        return entry.status.id
                    if entry.status.phase == "running":
                        self.doubled.append(f"{spec.pod.uid}/{spec.name}")
            return self._begin(spec)

    def stop(self, container_id: str, *, grace_s: float) -> None:
        """See `ContainerRuntime`."""
        self._maybe_fail("stop")
        with self._lock:
            self._settle()
            entry = self._entries.get(container_id)
            if entry is None or entry.status.phase != "running":
                return
            ignores = entry.script.ignores_term
        if ignores:
            self._clock.sleep_s(grace_s)
        with self._lock:
            self._settle()
            if entry.status.phase == "running":
                self._end(entry, _KILLED if ignores else entry.script.term_exit_code)
        self._ring()

    def remove(self, container_id: str) -> None:
        """See `ContainerRuntime`."""
        self._maybe_fail("remove")
        with self._lock:
            self._settle()
            entry = self._entries.get(container_id)
            if entry is not None and entry.status.phase == "running":
                raise RuntimeFailure(f"container {container_id} is running", reason="RemoveContainerError")
            self._entries.pop(container_id, None)

    def exec(self, container_id: str, argv: Sequence[str], *, timeout_s: float) -> ExecResult:  # noqa: ARG002
        """See `ContainerRuntime`."""
        self._maybe_fail("exec")
        with self._lock:
            self._settle()
            entry = self._entries.get(container_id)
            if entry is None or entry.status.phase != "running":
                raise RuntimeFailure(f"container {container_id} does not run", reason="ExecError")
            default = _behaviour(argv)
            return self._exec.get(entry.spec.name, ExecResult(default.exit_code, ""))

    def exec_line(self, container_id: str, argv: Sequence[str], *, tty: bool, pid_file: Path) -> Sequence[str]:  # noqa: ARG002
        """See `ContainerRuntime`; it runs on this machine."""
        return ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(pid_file), *argv]

    def wait_exit(self, known_pids: Mapping[str, int], *, timeout_s: float, wake_fd: int = -1) -> bool:
        """See `ContainerRuntime`."""
        end_s = self._clock.monotonic_s() + timeout_s
        while True:
            with self._lock:
                self._settle()
                alive = {entry.status.id for entry in self._entries.values() if entry.status.phase == "running"}
            if not known_pids.keys() <= alive:
                return True
            left_s = end_s - self._clock.monotonic_s()
            if left_s <= 0:
                return False
            fds = [self._bell_r, *([wake_fd] if wake_fd >= 0 else [])]
            ready, _, _ = select.select(fds, [], [], min(left_s, _TICK_S))
            if wake_fd in ready:
                return False
            if self._bell_r in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell_r, 4096)

    # -- inside

    def _begin(self, spec: ContainerSpec) -> str:
        self._serial += 1
        identity = f"{self._serial:064x}"
        scripts = self._scripts.get(spec.name)
        script = scripts[min(spec.attempt, len(scripts) - 1)] if scripts else _behaviour((*spec.command, *spec.args))
        status = ContainerStatus(
            id=identity,
            pod=spec.pod,
            name=spec.name,
            attempt=spec.attempt,
            phase="running",
            image=spec.image,
            image_id=next(image.id for image in self.images() if spec.image in image.names),
            pid=100_000 + self._serial,
            started_s=self._clock.now().timestamp(),
            log_path=spec.log_path,
            labels=dict(spec.labels),
        )
        ends_s = None if script.lasts_s is None else self._clock.monotonic_s() + script.lasts_s
        self._entries[identity] = _Entry(status, spec, script, ends_s)
        return identity

    def _settle(self) -> None:
        """Let what should have ended by now be ended."""
        now_s = self._clock.monotonic_s()
        for entry in self._entries.values():
            if entry.status.phase == "running" and entry.ends_at_s is not None and entry.ends_at_s <= now_s:
                self._end(entry, entry.script.exit_code, oom_killed=entry.script.oom_killed)

    def _end(self, entry: _Entry, code: int, *, oom_killed: bool = False) -> None:
        entry.status = dataclasses.replace(
            entry.status,
            phase="exited",
            pid=0,
            exit_code=code,
            oom_killed=oom_killed,
            finished_s=self._clock.now().timestamp(),
        )

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._bell_w, b"x")

    def _maybe_fail(self, call: str) -> None:
        if waiting := self._failures.get(call):
            raise waiting.pop(0)


def _behaviour(argv: Sequence[str]) -> Script:
    """What a well-known command does; anything else runs for ever and obeys SIGTERM."""
    words = " ".join(argv)
    if found := re.search(r"\bexit (\d+)\b", words):
        lasts = re.search(r"\bsleep ([\d.]+)", words)
        return Script(lasts_s=float(lasts[1]) if lasts else 0.0, exit_code=int(found[1]))
    if argv and argv[-1] in {"true", "/bin/true", "false", "/bin/false"}:
        return Script(lasts_s=0.0, exit_code=int("false" in argv[-1]))
    if found := re.search(r"\bsleep ([\d.]+)$", words):
        return Script(lasts_s=float(found[1]))
    return Script()
