"""What the machine has and uses, through psutil; what pods use, from their cgroups."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from agents.kubelet.cgroups import Cgroups, Usage
from agents.kubelet.runtime import ContainerStatus, PodRef
from agents.kubelet.views import without_nulls
from labctl.runtime.clock import Clock, rfc3339

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine's own figures, as measured; the lab's configuration may override capacities."""

    cpus: int
    memory_bytes: int
    memory_available_bytes: int
    disk_bytes: int
    disk_available_bytes: int
    inodes: int
    inodes_available: int
    pids: int
    pids_max: int
    boot_id: str
    machine_id: str
    system_uuid: str
    kernel_version: str
    os_image: str
    architecture: str
    image_disk_bytes: int = 0  # of the disk that holds images and containers; 0 where that is the same one
    image_disk_available_bytes: int = 0


def machine(root_dir: str = "/", *, etc: str = "/etc", image_dir: str = "", cgroups: Cgroups | None = None) -> Machine:
    """Measure now; a disk is the one that holds the folder, or the nearest folder above it that exists.

    A system container sees its host's memory: its own is what its control group may have.
    """
    memory = psutil.virtual_memory()
    memory_bytes, available_bytes = _own(memory.total, memory.available, cgroups or Cgroups())
    place, images = _existing(root_dir), _existing(image_dir or root_dir)
    disk = os.statvfs(place)
    apart = os.statvfs(images) if images.stat().st_dev != place.stat().st_dev else None
    machine_id = _line(Path(etc, "machine-id"))
    return Machine(
        cpus=psutil.cpu_count() or 1,
        memory_bytes=memory_bytes,
        memory_available_bytes=available_bytes,
        disk_bytes=disk.f_blocks * disk.f_frsize,
        disk_available_bytes=disk.f_bavail * disk.f_frsize,
        inodes=disk.f_files,
        inodes_available=disk.f_favail,
        pids=_tasks(),
        pids_max=int(_line(Path("/proc/sys/kernel/pid_max")) or 0),
        boot_id=_line(Path("/proc/sys/kernel/random/boot_id")),
        machine_id=machine_id,
        system_uuid=_line(Path("/sys/class/dmi/id/product_uuid")) or machine_id,
        kernel_version=platform.release(),
        os_image=_os_image(Path(etc, "os-release")),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        image_disk_bytes=apart.f_blocks * apart.f_frsize if apart else 0,
        image_disk_available_bytes=apart.f_bavail * apart.f_frsize if apart else 0,
    )


def _own(total: int, available: int, cgroups: Cgroups) -> tuple[int, int]:
    """Memory, and what of it is available, within the limit of the control group that we see as the root."""
    limit, used = cgroups.memory_limit("/"), cgroups.usage("/")
    if not 0 < limit < total or used is None:
        return total, available
    return limit, max(0, min(available, limit - used.working_set_bytes))


def _existing(folder: str) -> Path:
    place = Path(folder)
    while not place.exists():
        place = place.parent
    return place


def summary(
    *, node: str, containers: Iterable[ContainerStatus], cgroups: Cgroups, parent: str, clock: Clock
) -> dict[str, object]:
    """`/stats/summary`. Source: k/k `staging/src/k8s.io/kubelet/pkg/apis/stats/v1alpha1/types.go`."""
    now = rfc3339(clock.now())
    pods: dict[PodRef, list[ContainerStatus]] = {}
    for status in containers:
        if status.phase == "running":
            pods.setdefault(status.pod, []).append(status)
    memory, times = psutil.virtual_memory(), psutil.cpu_times()
    busy_s = sum(times) - times.idle - getattr(times, "iowait", 0.0)
    found = {
        "node": {
            "nodeName": node,
            "startTime": rfc3339_of(psutil.boot_time()),
            "cpu": {"time": now, "usageCoreNanoSeconds": int(busy_s * 1e9)},
            "memory": {
                "time": now,
                "availableBytes": memory.available,
                "usageBytes": memory.used,
                "workingSetBytes": memory.total - memory.available,
            },
        },
        "pods": [
            {
                "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                **_figures(now, cgroups.usage(f"{parent}/pod{pod.uid}")),
                "containers": [
                    {
                        "name": status.name,
                        "startTime": rfc3339_of(status.started_s),
                        **_figures(now, cgroups.usage(f"{parent}/pod{pod.uid}/{status.id}")),
                    }
                    for status in sorted(statuses, key=lambda status: status.name)
                ],
            }
            for pod, statuses in sorted(pods.items(), key=lambda entry: (entry[0].namespace, entry[0].name))
        ],
    }
    return dict(without_nulls(found))


def rfc3339_of(seconds: float) -> str | None:
    """Seconds since the epoch as a `metav1.Time`; None for an unknown time."""
    return rfc3339(datetime.fromtimestamp(seconds, UTC)) if seconds else None


def _figures(now: str, usage: Usage | None) -> dict[str, object]:
    if usage is None:
        return {}
    return {
        "cpu": {"time": now, "usageCoreNanoSeconds": usage.cpu_ns},
        "memory": {
            "time": now,
            "usageBytes": usage.memory_bytes,
            "workingSetBytes": usage.working_set_bytes,
            "rssBytes": usage.rss_bytes,
        },
    }


def _tasks() -> int:
    """Threads of the whole machine, the kernel's own count: `running/all` in /proc/loadavg."""
    words = _line(Path("/proc/loadavg")).split()
    return int(words[3].partition("/")[2]) if len(words) > 3 else 0


def _os_image(path: Path) -> str:
    for line in _text(path).splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip('"')
    return "Linux"


def _line(path: Path) -> str:
    return _text(path).strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
