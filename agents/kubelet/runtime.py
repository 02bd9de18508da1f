"""What the kubelet needs of a container runtime. `nerdctl` implements it; a fake stands beside it for tests.

All calls block, have deadlines, and raise RuntimeFailure with upstream's reason where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from labctl.runtime.errors import LabError


class RuntimeFailure(LabError):
    """An operation failed; `reason` is a waiting or event reason, e.g. ErrImagePull, CreateContainerError."""

    retryable = True

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PodRef:
    """Which pod something belongs to."""

    uid: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod's network namespace, made once per pod and boot; `address` is the pod IP ("" on the host network)."""

    pod: PodRef
    address: str
    netns_path: str
    created_s: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Mount:
    """A host path inside the container."""

    host_path: str
    container_path: str
    read_only: bool = False
    propagation: str = ""  # "", rprivate, rslave, rshared


@dataclass(frozen=True, slots=True)
class Limits:
    """cgroup settings; 0 means none. Memory in bytes, CPU in thousandths of a core."""

    cpu_request_milli: int = 0
    cpu_limit_milli: int = 0
    memory_limit_bytes: int = 0
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All the runtime needs to start one container of a pod."""

    pod: PodRef
    name: str
    attempt: int  # 0 for the first start, counting restarts
    image: str
    command: tuple[str, ...]  # replaces the image's entrypoint where not empty
    args: tuple[str, ...]
    env: Mapping[str, str]
    mounts: tuple[Mount, ...]
    sandbox: Sandbox
    hostname: str
    limits: Limits = field(default_factory=Limits)
    working_dir: str = ""
    user: str = ""  # uid or uid:gid
    groups: tuple[int, ...] = ()  # supplemental
    privileged: bool = False
    read_only_root: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    host_pid: bool = False
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False  # the input ends with the first who attaches
    log_path: str = ""  # JSON lines as nerdctl's json-file driver writes them
    labels: Mapping[str, str] = field(default_factory=dict)


ContainerPhase = Literal["created", "running", "exited"]


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """A container as the runtime knows it, dead ones included until removed."""

    id: str
    pod: PodRef
    name: str
    attempt: int
    phase: ContainerPhase
    image: str
    image_id: str
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    started_s: float = 0.0  # seconds since the epoch; 0 unknown
    finished_s: float = 0.0
    log_path: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this node."""

    names: tuple[str, ...]
    id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ExecResult:
    """A finished command's exit code and output (both streams, at most 10 KiB)."""

    code: int
    output: str


class ContainerRuntime(Protocol):
    """See the module. Containers and sandboxes are found by their labels, so nothing is lost with our process."""

    def version(self) -> str:
        """E.g. `containerd://1.7.24`."""
        ...

    def images(self) -> Sequence[Image]:
        """Every image on the node."""
        ...

    def pull(self, image: str) -> None:
        """Fetch an image; RuntimeFailure(reason=ErrImagePull) where that fails."""
        ...

    def sandboxes(self) -> Sequence[Sandbox]:
        """Every pod network namespace of this boot."""
        ...

    def make_sandbox(self, pod: PodRef, *, host_network: bool, host_ports: Sequence[tuple[int, int, str]]) -> Sandbox:
        """Network namespace and address; idempotent. `host_ports`: (host port, container port, protocol)."""
        ...

    def remove_sandbox(self, pod: PodRef) -> None:
        """Give address and namespace back; idempotent."""
        ...

    def containers(self) -> Sequence[ContainerStatus]:
        """Every container that belongs to a pod, whatever its phase."""
        ...

    def start(self, spec: ContainerSpec) -> str:
        """Create and start; the container's id. Idempotent per (pod uid, name, attempt): never two of them."""
        ...

    def stop(self, container_id: str, *, grace_s: float) -> None:
        """SIGTERM (or the image's STOPSIGNAL), SIGKILL after `grace_s`; returns once it is dead."""
        ...

    def remove(self, container_id: str) -> None:
        """Forget a dead container and its files; idempotent."""
        ...

    def exec(self, container_id: str, argv: Sequence[str], *, timeout_s: float) -> ExecResult:
        """Run a command inside; an overrun deadline is code 124."""
        ...

    def exec_line(self, container_id: str, argv: Sequence[str], *, tty: bool, pid_file: Path) -> Sequence[str]:
        """The command line that runs `argv` inside, in the foreground, and leaves its pid in a file once it runs."""
        ...

    def wait_exit(self, known_pids: Mapping[str, int], *, timeout_s: float, wake_fd: int = -1) -> bool:
        """Block until one of the containers (id -> pid) dies, or `timeout_s`; True if one did. Costs nothing idle.

        It also returns, with False, as soon as `wake_fd` is readable (left unread): the set of containers changed.
        """
        ...
