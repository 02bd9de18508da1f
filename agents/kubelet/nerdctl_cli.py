"""nerdctl's command line, as pure functions: what we ask of it, and what its answers mean.

Containers carry the labels upstream's CRI gives them, so that any tool finds them again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from agents.kubelet.runtime import ContainerPhase, ContainerSpec, ContainerStatus, Image, Limits, Mount, PodRef

POD_UID = "io.kubernetes.pod.uid"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
CONTAINER = "io.kubernetes.container.name"
ATTEMPT = "io.kubernetes.container.attempt"
LOG_PATH = "io.kubernetes.container.logpath"
IMAGE_ID = "labctl.dev/image-id"
STOP_SIGNAL = "io.containerd.image.config.stop-signal"

LOST_EXIT_CODE = 255  # what containerd itself reports of a container whose end nobody saw

_CPU_PERIOD_US = 100_000
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_TAKEN = re.compile(r'already used by ID \\?"([0-9a-f]{64})')


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where nerdctl, containerd and runc are, and where containers go."""

    binary: str = "/usr/local/bin/nerdctl"
    address: str = "/run/containerd/containerd.sock"
    namespace: str = "k8s.io"
    data_root: str = "/var/lib/nerdctl"
    containerd_root: str = "/var/lib/containerd"
    runc_root: str = "/run/containerd/runc"
    cgroup_parent: str = "/kubepods"
    work_dir: str = "/run/labctl/kubelet"  # pid files; empty after a boot
    log_max_bytes: int = 10 * 2**20  # as upstream's containerLogMaxSize, containerLogMaxFiles
    log_max_files: int = 5


def base(settings: Settings) -> list[str]:
    """What every invocation begins with."""
    return [
        *(settings.binary, "--address", settings.address, "--namespace", settings.namespace),
        *("--data-root", settings.data_root, "--cgroup-manager", "cgroupfs"),
    ]


def container_name(pod: PodRef, name: str, attempt: int) -> str:
    """Upstream's name of a container; nerdctl refuses a second of the same name."""
    return f"k8s_{name}_{pod.name}_{pod.namespace}_{pod.uid}_{attempt}"


def pod_cgroup(settings: Settings, uid: str) -> str:
    """The cgroup that holds a pod's containers, each by its id."""
    return f"{settings.cgroup_parent}/pod{uid}"


def run_arguments(spec: ContainerSpec, settings: Settings, *, image_id: str, pid_file: str, id_file: str) -> list[str]:
    """`nerdctl run -d` for a container, `-i` for one with an input; its id and pid are left in the two files."""
    arguments = [
        *("run", "--interactive" if spec.stdin else "--detach"),
        *("--pull", "never", "--quiet", "--pidfile", pid_file, "--cidfile", id_file),
        *("--name", container_name(spec.pod, spec.name, spec.attempt)),
        *("--network", f"ns:{spec.sandbox.netns_path}" if spec.sandbox.netns_path else "host"),
        *("--cgroup-parent", pod_cgroup(settings, spec.pod.uid)),
    ]
    if spec.sandbox.netns_path:
        arguments += ["--hostname", spec.hostname]
    for key, value in {**spec.labels, **identity(spec, image_id)}.items():
        arguments += ["--label", f"{key}={value}"]
    for key, value in spec.env.items():
        arguments += ["--env", f"{key}={value}"]
    for mount in spec.mounts:
        arguments += ["--volume", _volume(mount)]
    arguments += _limits(spec.limits) + _security(spec) + _log(spec.log_path, settings)
    if spec.working_dir:
        arguments += ["--workdir", spec.working_dir]
    for word in spec.command:
        arguments += ["--entrypoint", word]
    return [*arguments, spec.image, *spec.args]


def identity(spec: ContainerSpec, image_id: str) -> dict[str, str]:
    """The labels by which a container is found again."""
    return {
        POD_UID: spec.pod.uid,
        POD_NAME: spec.pod.name,
        POD_NAMESPACE: spec.pod.namespace,
        CONTAINER: spec.name,
        ATTEMPT: str(spec.attempt),
        LOG_PATH: spec.log_path,
        IMAGE_ID: image_id,
    }


def _volume(mount: Mount) -> str:
    options = [*(["ro"] if mount.read_only else []), *([mount.propagation] if mount.propagation else [])]
    return ":".join([mount.host_path, mount.container_path, *([",".join(options)] if options else [])])


def _limits(limits: Limits) -> list[str]:
    """Shares and quota as upstream's `cm/helpers_linux.go` computes them; no swap beyond the memory limit."""
    shares = max(2, limits.cpu_request_milli * 1024 // 1000)
    arguments = ["--cpu-shares", str(shares), "--oom-score-adj", str(limits.oom_score_adj)]
    if limits.cpu_limit_milli:
        quota_us = max(1000, limits.cpu_limit_milli * _CPU_PERIOD_US // 1000)
        arguments += ["--cpu-period", str(_CPU_PERIOD_US), "--cpu-quota", str(quota_us)]
    if limits.memory_limit_bytes:
        arguments += ["--memory", str(limits.memory_limit_bytes), "--memory-swap", str(limits.memory_limit_bytes)]
    return arguments


def _security(spec: ContainerSpec) -> list[str]:
    arguments = [*(["--privileged"] if spec.privileged else []), *(["--read-only"] if spec.read_only_root else [])]
    for capability in spec.drop_capabilities:
        arguments += ["--cap-drop", capability]
    for capability in spec.add_capabilities:
        arguments += ["--cap-add", capability]
    for group in spec.groups:
        arguments += ["--group-add", str(group)]
    if spec.user:
        arguments += ["--user", spec.user]
    if spec.host_pid:
        arguments += ["--pid", "host"]
    if spec.tty:
        arguments += ["--tty"]
    return arguments


def _log(path: str, settings: Settings) -> list[str]:
    if not path:
        return ["--log-driver", "none"]
    options = (f"log-path={path}", f"max-size={settings.log_max_bytes}", f"max-file={settings.log_max_files}")
    return ["--log-driver", "json-file", *(word for option in options for word in ("--log-opt", option))]


def entries_of(stdout: str) -> Iterator[dict[str, Any]]:
    """The entries of `nerdctl inspect`, which writes a JSON list for each container it is asked about."""
    decoder, rest = json.JSONDecoder(), stdout.lstrip()
    while rest:
        entries, end = decoder.raw_decode(rest)
        yield from entries
        rest = rest[end:].lstrip()


def status_of(entry: Mapping[str, Any]) -> ContainerStatus | None:
    """One entry of `nerdctl inspect`; None where the container belongs to no pod."""
    labels: dict[str, str] = entry["Config"].get("Labels") or {}
    if POD_UID not in labels or CONTAINER not in labels:
        return None
    state: dict[str, Any] = entry["State"]
    phase: ContainerPhase = "created"
    if state["Status"] in {"running", "paused", "pausing"}:
        phase = "running"
    elif state["Status"] == "exited":
        phase = "exited"
    return ContainerStatus(
        id=entry["Id"],
        pod=PodRef(labels[POD_UID], labels.get(POD_NAMESPACE, ""), labels.get(POD_NAME, "")),
        name=labels[CONTAINER],
        attempt=int(labels.get(ATTEMPT) or 0),
        phase=phase,
        image=entry["Image"],
        image_id=labels.get(IMAGE_ID, ""),
        pid=int(state.get("Pid") or 0) if phase == "running" else 0,
        exit_code=int(state.get("ExitCode") or 0),
        started_s=seconds_of(state.get("StartedAt") or ""),
        finished_s=seconds_of(state.get("FinishedAt") or ""),
        log_path=labels.get(LOG_PATH, ""),
        labels=labels,
    )


def lost(status: ContainerStatus, *, started_s: float = 0.0, seen_s: float) -> ContainerStatus:
    """A container that ran and whose end nobody saw, e.g. because the machine went down; seen dead at `seen_s`."""
    started_s = status.started_s or started_s
    return replace(status, phase="exited", pid=0, exit_code=LOST_EXIT_CODE, started_s=started_s, finished_s=seen_s)


def images_of(lines: Iterable[str]) -> list[Image]:
    """The lines of `nerdctl images --no-trunc --format '{{json .}}'`, one Image an id."""
    names: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for line in lines:
        if not line.startswith("{"):
            continue
        entry = msgspec.json.decode(line)
        name = str(entry.get("Name") or f"{entry['Repository']}:{entry['Tag']}")
        names.setdefault(entry["ID"], [])
        if "<none>" not in name:
            names[entry["ID"]].append(name)
        sizes[entry["ID"]] = _size_bytes(str(entry.get("Size", "0B")))
    return [Image(names=tuple(found), id=identity, size_bytes=sizes[identity]) for identity, found in names.items()]


def short_name(image: str) -> str:
    """An image's name with what nerdctl adds to it: `busybox` is `docker.io/library/busybox:latest`."""
    name, at, digest = image.partition("@")
    first, slash, _ = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    if not at and ":" not in name.rpartition("/")[2]:
        name += ":latest"
    return f"{name}{at}{digest}"


def _size_bytes(text: str) -> int:
    match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]+)", text.strip())
    return int(Decimal(match[1]) * _UNITS.get(match[2], 1)) if match else 0


def taken_by(words: str) -> str:
    """The id of the container that has the name already; "" where the failure is another."""
    match = _TAKEN.search(words)
    return match[1] if match else ""


def reason_of(words: str) -> str:
    """Upstream's waiting reason for a failed start."""
    if "image not available" in words:
        return "ErrImageNeverPull"
    if "runc create failed" in words or "failed to start" in words:
        return "RunContainerError"
    return "CreateContainerError"


def message_of(words: str) -> str:
    """The last message in nerdctl's log lines, without their dressing."""
    found = re.findall(r'msg="((?:[^"\\]|\\.)*)"', words)
    lines = words.strip().splitlines()
    text = found[-1].replace('\\"', '"').replace("\\n", " ") if found else (lines[-1] if lines else "no output")
    return re.sub(r"\s+", " ", text).strip()


def seconds_of(stamp: str) -> float:
    """An RFC 3339 time with nanoseconds as seconds since the epoch; 0 for an absent one."""
    if not stamp or stamp.startswith("0001-"):
        return 0.0
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
