"""The container runtime of a node: containerd, driven through nerdctl.

An invocation of nerdctl costs a second or two on an emulated machine, so one is made only where something must change
or cannot be known otherwise. What runs is known by pidfds (`agents.kubelet.processes`): an end is seen at once, and
costs nothing until then; signals go to the process itself; commands inside go through `runc exec`, which is twice as
fast as `nerdctl exec` and tells the pid to end when a deadline passes.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from agents.kubelet import nerdctl_cli as cli
from agents.kubelet.cgroups import Cgroups
from agents.kubelet.inventory import Inventory
from agents.kubelet.network import PodNetwork
from agents.kubelet.processes import open_process, send, wait_any
from agents.kubelet.runtime import ContainerSpec, ContainerStatus, ExecResult, Image, PodRef, RuntimeFailure, Sandbox
from labctl.runtime.clock import Clock
from labctl.runtime.shell import CommandError, Output, Shell

_QUICK_S, _SLOW_S = 60.0, 240.0  # deadlines of reading and of starting, for the slowest machine
_RELIST_S = 300.0  # only strangers change what we don't see; they are noticed after this long
_KILL_S = 30.0
_OUTPUT_BYTES = 10 * 1024
_UNREACHABLE = re.compile(r"cannot access containerd socket|connection (error|refused)|context deadline|Unavailable")


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
        self._shell, self._clock = shell, clock
        self._inventory = Inventory()
        self._starting: set[str] = set()
        self._lock = threading.Lock()  # guards the names being started
        self._listing = threading.Lock()  # one list at a time
        self._listed_s: float | None = None
        self._images: tuple[int, tuple[Image, ...]] | None = None
        self._version = ""
        self._stop_signals: dict[str, str] = {}  # by image
        Path(self.settings.work_dir).mkdir(parents=True, exist_ok=True)

    # -- the node

    def version(self) -> str:
        """See `ContainerRuntime`; RuntimeFailure while containerd does not answer."""
        self._reach()
        if not self._version:
            answer = msgspec.json.decode(self._nerdctl(["version", "--format", "{{json .}}"]).stdout)
            parts = (answer.get("Server") or {}).get("Components") or ()
            found = [part["Version"] for part in parts if part["Name"] == "containerd"]
            if not found:
                raise RuntimeFailure("containerd does not answer", reason="ContainerRuntimeNotReady")
            self._version = f"containerd://{found[0].partition('~')[0]}"
        return self._version

    def images(self) -> Sequence[Image]:
        """See `ContainerRuntime`; asked of nerdctl only when containerd's content has changed."""
        stamp = self._content_stamp()
        if self._images is None or self._images[0] != stamp or not stamp:
            lines = self._nerdctl(["images", "--no-trunc", "--format", "{{json .}}"]).stdout.splitlines()
            self._images = (stamp, tuple(cli.images_of(lines)))
        return self._images[1]

    def pull(self, image: str) -> None:
        """See `ContainerRuntime`."""
        self._images = None
        try:
            self._nerdctl(["pull", "--quiet", image], timeout_s=_SLOW_S)
        except RuntimeFailure as error:
            raise RuntimeFailure(str(error), reason="ErrImagePull") from error

    # -- the pod network

    def sandboxes(self) -> Sequence[Sandbox]:
        """See `ContainerRuntime`."""
        return self.network.sandboxes()

    def make_sandbox(self, pod: PodRef, *, host_network: bool, host_ports: Sequence[tuple[int, int, str]]) -> Sandbox:
        """See `ContainerRuntime`."""
        return self.network.make(pod, host_network=host_network, host_ports=host_ports)

    def remove_sandbox(self, pod: PodRef) -> None:
        """See `ContainerRuntime`."""
        self.network.remove(pod)
        self.cgroups.remove(cli.pod_cgroup(self.settings, pod.uid))

    # -- containers

    def containers(self) -> Sequence[ContainerStatus]:
        """See `ContainerRuntime`. Free of cost while nothing ended."""
        with self._listing:
            if self._listed_s is None or self._clock.monotonic_s() - self._listed_s > _RELIST_S:
                self._relist()
            if ended := self._inventory.ended():
                self._inspect(ended)
        return self._inventory.all()

    def start(self, spec: ContainerSpec) -> str:
        """See `ContainerRuntime`. Needs the image on the node."""
        self._list_once()
        name = cli.container_name(spec.pod, spec.name, spec.attempt)
        with self._only_start(name):
            for status in self._inventory.all():
                if (status.pod.uid, status.name, status.attempt) == (spec.pod.uid, spec.name, spec.attempt):
                    if status.phase != "created":
                        return status.id
                    self.remove(status.id)  # a start was cut short between create and start
            try:
                return self._run(spec)
            except _NameTaken as taken:
                return self._adopt(name, taken.container_id) or self._run(spec)

    def stop(self, container_id: str, *, grace_s: float) -> None:
        """See `ContainerRuntime`. Asks nothing of containerd, so it works while that is down."""
        self._list_once()
        status = self._inventory.get(container_id)
        for fd in self._inventory.open([container_id]):
            try:
                if grace_s > 0 and status is not None:
                    send(fd, self._stop_signal(status))
                    if wait_any([fd], timeout_s=grace_s):
                        return
                send(fd, signal.SIGKILL)
                if not wait_any([fd], timeout_s=_KILL_S):
                    raise RuntimeFailure(f"container {container_id[:12]} survives SIGKILL", reason="KillContainerError")
            finally:
                os.close(fd)

    def remove(self, container_id: str) -> None:
        """See `ContainerRuntime`; its log goes too."""
        self._list_once()
        if fds := self._inventory.open([container_id]):
            running = [fd for fd in fds if not wait_any([fd], timeout_s=0)]
            for fd in fds:
                os.close(fd)
            if running:
                raise RuntimeFailure(f"container {container_id[:12]} is running", reason="RemoveContainerError")
        output = self._nerdctl(["rm", "--force", container_id], check=False)
        if output.code and "no such container" not in output.stderr:
            raise _failure(output.stderr, reason="ContainerRemoveError")
        status = self._inventory.drop(container_id)
        if status is not None and (path := status.log_path):
            for file in Path(path).parent.glob(f"{Path(path).name}*"):
                file.unlink(missing_ok=True)

    def exec(self, container_id: str, argv: Sequence[str], *, timeout_s: float) -> ExecResult:
        """See `ContainerRuntime`; code 126 or 127 where the command cannot be run."""
        pid_file = Path(self.settings.work_dir, f"exec-{uuid.uuid4().hex}.pid")
        command = ["runc", "--root", f"{self.settings.runc_root}/{self.settings.namespace}", "exec"]
        try:
            output = self._shell.run(
                [*command, "--pid-file", str(pid_file), container_id, *argv], timeout_s=timeout_s, check=False
            )
        except CommandError as error:
            if error.code != 124:
                raise RuntimeFailure(str(error), reason="ExecError") from error
            _end(pid_file, container_id)
            return ExecResult(124, f"command timed out after {timeout_s:g} s")
        finally:
            pid_file.unlink(missing_ok=True)
        text = (output.stdout + output.stderr)[:_OUTPUT_BYTES]
        if output.code == 255 and "level=error" in output.stderr:
            if "does not exist" in text or "cannot exec in a stopped" in text:
                raise RuntimeFailure(cli.message_of(output.stderr), reason="ExecError")
            return ExecResult(126 if "permission denied" in text else 127, cli.message_of(output.stderr))
        return ExecResult(output.code, text)

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
        image_id = self._image_id(spec.image)
        arguments = cli.run_arguments(spec, self.settings, image_id=image_id, pid_file=str(pid_file), id_file=str(id_file))
        try:
            output = self._nerdctl(arguments, timeout_s=_SLOW_S, check=False)
            if output.code:
                if taken := cli.taken_by(output.stderr):
                    raise _NameTaken(taken)
                if half_made := _words(id_file):
                    self._nerdctl(["rm", "--force", half_made], check=False)
                raise _failure(output.stderr, reason=cli.reason_of(output.stderr))
            identity, pid = _words(id_file), int(_words(pid_file) or 0)
        except RuntimeFailure:
            self._listed_s = None  # it may have come to life all the same
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
        if not self._inventory.put(status):
            self._inspect([identity])  # it has ended already
        return identity

    def _adopt(self, name: str, container_id: str) -> str:
        """Take over a container made by a start that was cut short; "" once a half-made one is out of the way."""
        self._inspect([container_id])
        status = self._inventory.get(container_id)
        if status is not None and status.phase != "created":
            return container_id
        self.remove(container_id)
        if status is None:  # only the name is left of it
            for file in Path(self.settings.data_root).glob(f"*/{self.settings.namespace}/{name}"):
                file.unlink(missing_ok=True)
        return ""

    def _list_once(self) -> None:
        if self._listed_s is None:
            self.containers()

    def _relist(self) -> None:
        listed = self._nerdctl(["ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={cli.POD_UID}"]).stdout.split()
        known = {status.id for status in self._inventory.all()}
        for identity in known.difference(listed):
            self._inventory.drop(identity)
        if unknown := [identity for identity in listed if identity not in known]:
            self._inspect(unknown)
        self._listed_s = self._clock.monotonic_s()

    def _inspect(self, identities: Sequence[str]) -> None:
        """Learn the state of some containers, giving containerd a moment to notice the end of dead ones."""
        for tries_left in range(20, -1, -1):
            output = self._nerdctl(["inspect", *identities], check=False)
            if output.code and _UNREACHABLE.search(output.stderr):
                raise _failure(output.stderr, reason="ContainerRuntimeNotReady")
            entries = msgspec.json.decode(output.stdout) if output.stdout.strip() else []
            found = {status.id: status for status in map(cli.status_of, entries) if status}
            for gone in set(identities).difference(found):
                self._inventory.drop(gone)
            identities = [status.id for status in found.values() if not self._learn(status, final=tries_left == 0)]
            if not identities:
                return
            self._clock.sleep_s(0.05)

    def _learn(self, status: ContainerStatus, *, final: bool) -> bool:
        """Remember what containerd says; False where it "runs" though its process is dead, unless that is `final`."""
        if found := status.labels.get(cli.STOP_SIGNAL):
            self._stop_signals[status.image] = found
        if status.phase == "running":
            if self._inventory.put(status):
                return True
            if not final:
                return False
            ended_s = self._clock.now().timestamp()
            status = replace(status, phase="exited", pid=0, exit_code=cli.LOST_EXIT_CODE, finished_s=ended_s)
        cgroup = f"{cli.pod_cgroup(self.settings, status.pod.uid)}/{status.id}"
        return self._inventory.put(replace(status, oom_killed=self.cgroups.oom_kills(cgroup) > 0))

    def _stop_signal(self, status: ContainerStatus) -> int:
        if status.image not in self._stop_signals:
            with contextlib.suppress(RuntimeFailure):
                self._inspect([status.id])
        word = self._stop_signals.get(status.image, "SIGTERM").upper()
        if word.isdigit():
            return int(word)
        return int(getattr(signal, word if word.startswith("SIG") else f"SIG{word}", signal.SIGTERM))

    def _image_id(self, name: str) -> str:
        full = cli.short_name(name)
        return next((image.id for image in self.images() if {name, full} & set(image.names)), "")

    def _content_stamp(self) -> int:
        """Changes whenever an image is loaded or deleted; 0 where it cannot be read."""
        blobs = Path(self.settings.containerd_root, "io.containerd.content.v1.content/blobs/sha256")
        try:
            return blobs.stat().st_mtime_ns
        except OSError:
            return 0

    def _reach(self) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2.0)
            try:
                probe.connect(self.settings.address)
            except OSError as error:
                message = f"containerd does not answer at {self.settings.address}: {error}"
                raise RuntimeFailure(message, reason="ContainerRuntimeNotReady") from error

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

    def _nerdctl(self, arguments: Sequence[str], *, timeout_s: float = _QUICK_S, check: bool = True) -> Output:
        try:
            output = self._shell.run([*cli.base(self.settings), *arguments], timeout_s=timeout_s, check=False)
        except CommandError as error:
            raise RuntimeFailure(str(error), reason="ContainerRuntimeNotReady") from error
        if check and output.code:
            raise _failure(output.stderr, reason="RuntimeError")
        return output


def _failure(words: str, *, reason: str) -> RuntimeFailure:
    if _UNREACHABLE.search(words):
        reason = "ContainerRuntimeNotReady"
    return RuntimeFailure(cli.message_of(words), reason=reason)


def _words(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _end(pid_file: Path, container_id: str) -> None:
    """Kill what an exec left behind in its container when its own deadline passed."""
    pid = _words(pid_file)
    if not pid.isdigit():
        return
    fd = open_process(int(pid), cgroup_word=container_id)
    if fd >= 0:
        send(fd, signal.SIGKILL)
        os.close(fd)
