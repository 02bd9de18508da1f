"""The container runtime of a node: containerd, driven through nerdctl.

An invocation of nerdctl costs a second or two on an emulated machine, so one is made only where something must change
or cannot be known otherwise. What runs is known by pidfds (`agents.kubelet.processes`): an end is seen at once, and
costs nothing until then; signals go to the process itself; commands inside go through `agents.kubelet.runc_exec`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agents.kubelet import held
from agents.kubelet import nerdctl_cli as cli
from agents.kubelet.census import Census
from agents.kubelet.cgroups import Cgroups
from agents.kubelet.nerdctl_call import SLOW_S, Nerdctl, failure, text_of
from agents.kubelet.network import PodNetwork
from agents.kubelet.processes import mentioned_by, send, wait_any
from agents.kubelet.runc_exec import RuncExec
from agents.kubelet.runtime import ContainerSpec, ContainerStatus, ExecResult, Image, PodRef, RuntimeFailure, Sandbox
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import Shell

_KILL_S = 30.0


class _NameTaken(Exception):
    """nerdctl knows a container of this name."""

    def __init__(self, container_id: str) -> None:
        super().__init__(container_id)
        self.container_id = container_id


class NerdctlRuntime:
    """`ContainerRuntime` over nerdctl, with pod networks from `PodNetwork`. Safe to share between threads."""

    def __init__(
        self,
        shell: Shell,
        network: PodNetwork,
        clock: Clock,
        settings: cli.Settings | None = None,
        cgroups: Cgroups | None = None,
    ) -> None:
        self.settings = settings or cli.Settings()
        self.network, self.cgroups = network, cgroups or Cgroups()
        self._nerdctl, self._runc = Nerdctl(shell, self.settings), RuncExec(shell, self.settings)
        self._clock = clock
        self._census = Census(self._nerdctl, self.cgroups, clock)
        self._inventory = self._census.inventory
        self._starting: set[str] = set()
        self._lock = threading.Lock()  # guards the names being started
        Path(self.settings.work_dir).mkdir(parents=True, exist_ok=True)

    # -- the node

    def version(self) -> str:
        """See `ContainerRuntime`; RuntimeFailure while containerd does not answer."""
        return self._nerdctl.version()

    def images(self) -> Sequence[Image]:
        """See `ContainerRuntime`; asked of nerdctl only when containerd's content has changed."""
        return self._nerdctl.images()

    def pull(self, image: str) -> None:
        """See `ContainerRuntime`."""
        self._nerdctl.pull(image)

    # -- the pod network

    def sandboxes(self) -> Sequence[Sandbox]:
        """See `ContainerRuntime`."""
        return self.network.sandboxes()

    def make_sandbox(self, pod: PodRef, *, host_network: bool, host_ports: Sequence[tuple[int, int, str]]) -> Sandbox:
        """See `ContainerRuntime`."""
        return self.network.make(pod, host_network=host_network, host_ports=host_ports)

    def remove_sandbox(self, pod: PodRef) -> None:
        """See `ContainerRuntime`. The network's record goes last: by it whoever is killed on the way finds the rest."""
        path = cli.pod_cgroup(self.settings, pod.uid)
        if not self.cgroups.remove(path):
            self._census.doubt()  # whose are they, if not of a container that is not known yet?
            raise RuntimeFailure(f"the control group {path} still has processes", reason="KillPodSandboxError")
        self.network.remove(pod)

    # -- containers

    def containers(self) -> Sequence[ContainerStatus]:
        """See `ContainerRuntime`. Free of cost while nothing ended."""
        return self._census.take()

    def start(self, spec: ContainerSpec) -> str:
        """See `ContainerRuntime`. Needs the image on the node."""
        self._census.take_once()
        name = cli.container_name(spec.pod, spec.name, spec.attempt)
        with self._only_start(name):
            for status in self._inventory.all():
                if (status.pod.uid, status.name, status.attempt) == (spec.pod.uid, spec.name, spec.attempt):
                    if found := self._adopt(name, status.id):
                        return found
                    break
            try:
                return self._run(spec)
            except _NameTaken as taken:
                return self._adopt(name, taken.container_id) or self._run(spec)

    def stop(self, container_id: str, *, grace_s: float) -> None:
        """See `ContainerRuntime`. Asks nothing of containerd, so it works while that is down."""
        self._census.take_once()
        status = self._inventory.get(container_id)
        for fd in self._inventory.open([container_id]):
            try:
                if grace_s > 0 and status is not None:
                    send(fd, self._census.stop_signal(status))
                    if wait_any([fd], timeout_s=grace_s):
                        return
                send(fd, signal.SIGKILL)
                if not wait_any([fd], timeout_s=_KILL_S):
                    raise RuntimeFailure(f"container {container_id[:12]} survives SIGKILL", reason="KillContainerError")
            finally:
                os.close(fd)

    def remove(self, container_id: str) -> None:
        """See `ContainerRuntime`; its log goes too."""
        self._census.take_once()
        if fds := self._inventory.open([container_id]):
            running = [fd for fd in fds if not wait_any([fd], timeout_s=0)]
            for fd in fds:
                os.close(fd)
            if running:
                raise RuntimeFailure(f"container {container_id[:12]} is running", reason="RemoveContainerError")
        output = self._nerdctl.call(["rm", "--force", container_id], check=False)
        if output.code and "no such container" not in output.stderr:
            raise failure(output.stderr, reason="ContainerRemoveError")
        held.forget(self.settings.work_dir, container_id)
        status = self._inventory.drop(container_id)
        if status is not None and (path := status.log_path):
            for file in Path(path).parent.glob(f"{Path(path).name}*"):
                file.unlink(missing_ok=True)

    def exec(self, container_id: str, argv: Sequence[str], *, timeout_s: float) -> ExecResult:
        """See `ContainerRuntime`; code 126 or 127 where the command cannot be run."""
        return self._runc.exec(container_id, argv, timeout_s=timeout_s)

    def exec_line(self, container_id: str, argv: Sequence[str], *, tty: bool, pid_file: Path) -> Sequence[str]:
        """See `ContainerRuntime`."""
        return self._runc.line(container_id, argv, tty=tty, pid_file=pid_file)

    def wait_exit(self, known_pids: Mapping[str, int], *, timeout_s: float, wake_fd: int = -1) -> bool:
        """See `ContainerRuntime`."""
        fds = self._inventory.open(known_pids)
        try:
            if len(fds) < len(known_pids):
                return True  # somebody asks about one that is dead already
            ready = wait_any([*fds, *([wake_fd] if wake_fd >= 0 else [])], timeout_s=timeout_s)
            return any(fd in fds for fd in ready)
        finally:
            for fd in fds:
                os.close(fd)

    # -- within

    def _run(self, spec: ContainerSpec) -> str:
        stem = Path(self.settings.work_dir, f"run-{uuid.uuid4().hex}")
        pid_file, id_file = stem.with_suffix(".pid"), stem.with_suffix(".id")
        if spec.log_path:
            Path(spec.log_path).parent.mkdir(parents=True, exist_ok=True)
        image_id = self._nerdctl.image_id(spec.image)
        arguments = cli.run_arguments(
            spec, self.settings, image_id=image_id, pid_file=str(pid_file), id_file=str(id_file)
        )
        try:
            if spec.stdin:
                line = [*cli.base(self.settings), *arguments]
                output = held.start(line, spec, stem, clock=self._clock, timeout_s=SLOW_S)
            else:
                output = self._nerdctl.call(arguments, timeout_s=SLOW_S, check=False)
            if output.code:
                if taken := cli.taken_by(output.stderr):
                    raise _NameTaken(taken)
                if half_made := text_of(id_file):
                    self._nerdctl.call(["rm", "--force", half_made], check=False)
                raise failure(output.stderr, reason=cli.reason_of(output.stderr))
            identity, pid = text_of(id_file), int(text_of(pid_file) or 0)
            held.settle(stem, self.settings.work_dir, identity)
        except RuntimeFailure:
            self._census.doubt()  # it may have come to life all the same
            raise
        finally:
            pid_file.unlink(missing_ok=True)
            id_file.unlink(missing_ok=True)
        status = ContainerStatus(
            id=identity,
            pod=spec.pod,
            name=spec.name,
            attempt=spec.attempt,
            phase="running",
            image=spec.image,
            image_id=image_id,
            pid=pid,
            started_s=self._clock.now().timestamp(),
            log_path=spec.log_path,
            labels={**spec.labels, **cli.identity(spec, image_id)},
        )
        self._census.started(status)
        return identity

    def _adopt(self, name: str, container_id: str) -> str:
        """Take over a container made by an earlier start; "" once a half-made one is out of the way."""
        status = self._inventory.get(container_id)
        if status is None or status.phase == "created":
            # A nerdctl that our former life began may still be at it.
            free = lambda: not mentioned_by(self.settings.binary, name)  # noqa: E731
            try:
                wait_for(free, what=f"an earlier start of {name}", deadline_s=SLOW_S, clock=self._clock, every_s=0.05)
            except DeadlineExceeded as error:
                raise RuntimeFailure(str(error), reason="CreateContainerError") from error
            self._census.inspect([container_id])
            status = self._inventory.get(container_id)
        if status is not None and status.phase != "created":
            return container_id
        self.remove(container_id)
        if status is None:  # only the name is left of it
            for file in Path(self.settings.data_root).glob(f"*/{self.settings.namespace}/{name}"):
                file.unlink(missing_ok=True)
        return ""

    @contextlib.contextmanager
    def _only_start(self, name: str) -> Iterator[None]:
        with self._lock:
            if name in self._starting:
                raise RuntimeFailure(f"{name} is being started", reason="ContainerCreating")
            self._starting.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._starting.discard(name)
