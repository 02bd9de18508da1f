"""The volumes of this node's pods: directories that a pod's containers share.

Empty directories lie on disk under the kubelet's root; what comes from API objects lies in memory, under /run, so that
no secret is ever on a disk, and is written anew after a boot.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agents.kubelet import atomic_writer
from agents.kubelet.env import ConfigError, Surroundings
from agents.kubelet.payload import Sources, TokenKey, is_payload, needs, payload
from agents.kubelet.runtime import RuntimeFailure
from agents.kubelet.views import ConfigMap, EmptyDir, HostPath, Pod, Secret, Volume
from labctl.kube import quantity
from labctl.kube.client import Client
from labctl.kube.errors import ApiError
from labctl.kube.resources import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS
from labctl.runtime.clock import Clock
from labctl.runtime.shell import CommandError, Shell

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MOUNT_S = 30.0
_TOKEN_AGE = 0.8  # as upstream, a token is replaced when this fraction of its life is over


@dataclass(frozen=True, slots=True)
class Place:
    """Where volumes lie, and what the downward API says of the node."""

    root_dir: str
    memory_dir: str = "/run/labctl/volumes"
    node_ip: str = ""
    node_cpu_milli: int = 0
    node_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    until_s: float  # on our monotonic clock: ask for another from then on


class NodeVolumes:
    """`Volumes` of the kubelet. Safe to share between threads; the volumes of one pod are made one at a time."""

    def __init__(self, client: Client, shell: Shell, clock: Clock, place: Place) -> None:
        self.place = place
        self._client, self._shell, self._clock = client, shell, clock
        self._tokens: dict[str, dict[TokenKey, _Token]] = {}  # by pod uid
        self._locks: dict[str, threading.Lock] = {}  # by pod uid

    def prepare(self, pod: Pod) -> Mapping[str, str]:
        """Bring every volume here, or up to date; host path by name. RuntimeFailure(FailedMount), ConfigError."""
        with self._locks.setdefault(pod.metadata.uid, threading.Lock()):
            return {volume.name: self._prepare(pod, volume) for volume in pod.spec.volumes}

    def remove(self, pod_uid: str) -> None:
        """Delete a pod's volumes; idempotent. What is mounted in them is unmounted first, never deleted through."""
        with self._locks.setdefault(pod_uid, threading.Lock()):
            self._tokens.pop(pod_uid, None)
            for folder in (self._disk(pod_uid), self._memory(pod_uid)):
                for mount in _mounts_below(folder):
                    self._run(["umount", mount])
                if folder.exists():
                    shutil.rmtree(folder)
        self._locks.pop(pod_uid, None)

    def pods(self) -> frozenset[str]:
        """The uids of the pods that something is kept for."""
        disk = Path(self.place.root_dir, "pods")
        found = {entry.parent.name for entry in disk.glob("*/volumes")}
        with contextlib.suppress(FileNotFoundError):
            found |= {entry.name for entry in os.scandir(self.place.memory_dir)}
        return frozenset(found)

    # -- within

    def _prepare(self, pod: Pod, volume: Volume) -> str:
        try:
            if volume.empty_dir is not None:
                return self._empty_dir(pod, volume.name, volume.empty_dir)
            if volume.host_path is not None:
                return _host_path(volume.name, volume.host_path)
            if is_payload(volume):
                return self._payload(pod, volume)
        except OSError as error:
            raise _failed(volume.name, str(error)) from error
        kind = "a persistentVolumeClaim is" if volume.persistent_volume_claim else "its kind is"
        raise _failed(volume.name, f"{kind} not supported here")

    def _empty_dir(self, pod: Pod, name: str, source: EmptyDir) -> str:
        path = self._disk(pod.metadata.uid) / "kubernetes.io~empty-dir" / name
        fresh = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        if source.medium == "Memory" and not os.path.ismount(path):
            limit = quantity.whole(source.size_limit) if source.size_limit else 0
            size = f",size={limit}" if limit else ""
            self._run(["mount", "-t", "tmpfs", "-o", f"mode=0777,nosuid,nodev{size}", "tmpfs", str(path)])
            fresh = True
        elif source.medium not in {"", "Memory"}:
            raise _failed(name, f"medium {source.medium!r} is not supported here")
        if fresh:
            group = pod.spec.security_context.fs_group
            if group is not None:
                os.chown(path, -1, group)
            path.chmod(0o777 if group is None else 0o2777)
        return str(path)

    def _payload(self, pod: Pod, volume: Volume) -> str:
        path = self._memory(pod.metadata.uid) / volume.name
        try:
            wanted = payload(pod, volume, self._sources(pod, volume))
        except (ApiError, ConfigError) as error:
            if not atomic_writer.is_written(path):
                raise _failed(volume.name, str(error)) from error
            # The pod has what it started with; nobody may lose it because the API is away or an object was deleted.
            _log.warning("%s: volume %s stays as it is: %s", pod.key, volume.name, error)
            return str(path)
        atomic_writer.write(path, wanted, now=self._clock.now(), group=pod.spec.security_context.fs_group)
        return str(path)

    def _sources(self, pod: Pod, volume: Volume) -> Sources:
        namespace, wanted, find = pod.metadata.namespace, needs(volume), self._client.find
        around = Surroundings(
            config_maps={name: find(CONFIG_MAPS, ConfigMap, name, namespace) for name in wanted.config_maps},
            secrets={name: find(SECRETS, Secret, name, namespace) for name in wanted.secrets},
            pod_ip=pod.status.pod_ip,
            host_ip=self.place.node_ip,
            node_cpu_milli=self.place.node_cpu_milli,
            node_memory_bytes=self.place.node_memory_bytes,
        )
        return Sources(around, {key: self._token(pod, key) for key in wanted.tokens})

    def _token(self, pod: Pod, key: TokenKey) -> str:
        """A token bound to the pod, asked for by TokenRequest and replaced well before it expires. Raises ApiError."""
        meta = pod.metadata
        mine = self._tokens.setdefault(meta.uid, {})
        known = mine.get(key)
        if known is not None and self._clock.monotonic_s() < known.until_s:
            return known.text
        audience, seconds = key
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid}
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": bound,
            },
        }
        account = pod.spec.service_account_name or "default"
        try:
            answer = self._client.post(SERVICE_ACCOUNTS, account, "token", request, meta.namespace)
        except ApiError:
            if known is None:
                raise
            return known.text  # the old one is valid a while yet
        given = answer.get("status", {})
        life_s = float(answer.get("spec", {}).get("expirationSeconds") or seconds)
        mine[key] = _Token(str(given.get("token", "")), self._clock.monotonic_s() + _TOKEN_AGE * life_s)
        return mine[key].text

    def _disk(self, uid: str) -> Path:
        return Path(self.place.root_dir, "pods", uid, "volumes")

    def _memory(self, uid: str) -> Path:
        return Path(self.place.memory_dir, uid)

    def _run(self, argv: list[str]) -> None:
        try:
            self._shell.run(argv, timeout_s=_MOUNT_S)
        except CommandError as error:
            raise RuntimeFailure(str(error), reason="FailedMount") from error


_KINDS = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def _host_path(name: str, source: HostPath) -> str:
    """Check, or make, what `type` asks for. https://kubernetes.io/docs/concepts/storage/volumes/#hostpath."""
    path = Path(source.path)
    kind = source.type
    if kind == "DirectoryOrCreate" and not path.exists():
        path.mkdir(parents=True, mode=0o755)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    is_kind, words = _KINDS.get(kind.removesuffix("OrCreate"), (None, ""))
    if is_kind is not None and not (path.exists() and is_kind(path.stat().st_mode)):
        raise _failed(name, f"hostPath type check failed: {path} is not {words}")
    if is_kind is None and kind:
        raise _failed(name, f"hostPath type {kind!r} is unknown")
    return str(path)


def _mounts_below(folder: Path) -> Iterable[str]:
    """Mount points in `folder`, the innermost first."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        points = [line.split()[1].encode().decode("unicode_escape") for line in file]
    return sorted((point for point in points if point.startswith(f"{folder}/")), key=len, reverse=True)


def _failed(volume: str, message: str) -> RuntimeFailure:
    return RuntimeFailure(f'MountVolume.SetUp failed for volume "{volume}": {message}', reason="FailedMount")
