"""Carries out one instruction: thin, blocking, idempotent, without a choice of its own.

Each method raises a LabError where it failed; the loop that called it decides when it is tried again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agents.kubelet import spec
from agents.kubelet.checks import Checker, target_of
from agents.kubelet.env import ConfigError, Surroundings, references
from agents.kubelet.plan import Start, Stop, container_of
from agents.kubelet.reader import Reader
from agents.kubelet.runtime import ContainerRuntime, Mount, RuntimeFailure, Sandbox
from agents.kubelet.seen import CONFIG_REASON
from agents.kubelet.service_env import Service, service_env
from agents.kubelet.views import ConfigMap, Container, Pod, Secret
from labctl.kube.client import Client
from labctl.kube.errors import Conflict, NotFound
from labctl.kube.events import Recorder
from labctl.kube.meta import Reference
from labctl.kube.resources import CONFIG_MAPS, PODS, SECRETS, SERVICES
from labctl.runtime.clock import Clock

_HOOK_EXTRA_S = 2.0  # what is left at least for SIGTERM after a preStop hook that took the whole grace
_MESSAGE_BYTES = 4096


class Volumes(Protocol):
    """The node's side of pods' volumes."""

    def prepare(self, pod: Pod) -> Mapping[str, str]:
        """Bring every volume of the pod here, idempotently; host path by volume name."""
        ...

    def remove(self, pod_uid: str) -> None:
        """Delete everything of a pod; idempotent."""
        ...

    def pods(self) -> frozenset[str]:
        """The uids of the pods that something is kept for."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """What the kubelet needs to know of its node to start containers."""

    node_ip: str
    root_dir: str
    log_dir: str
    allocatable_cpu_milli: int = 0
    allocatable_memory_bytes: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Tools:
    """What instructions are carried out with."""

    runtime: ContainerRuntime
    volumes: Volumes
    client: Client
    recorder: Recorder
    checker: Checker
    clock: Clock


class Hands:
    """Carries out instructions for pods of this node. Safe to share between threads."""

    def __init__(self, tools: Tools, machine: Machine) -> None:
        self._tools, self.machine = tools, machine
        self._reader = Reader(tools.client)
        self._paths: dict[str, Mapping[str, str]] = {}  # of volumes, by pod uid

    def make_sandbox(self, pod: Pod) -> None:
        """Network namespace and address."""
        try:
            self._tools.runtime.make_sandbox(
                spec.ref(pod), host_network=pod.spec.host_network, host_ports=spec.host_ports(pod)
            )
        except RuntimeFailure as error:
            self._warn(pod, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            raise

    def remove_sandbox(self, pod: Pod) -> None:
        """Give them back."""
        self._tools.runtime.remove_sandbox(spec.ref(pod))

    def prepare_volumes(self, pod: Pod) -> None:
        """Volumes, and the pod's own folder."""
        try:
            self._pod_dir(pod).mkdir(parents=True, exist_ok=True)
            self._paths[pod.metadata.uid] = self._tools.volumes.prepare(pod)
        except (RuntimeFailure, ConfigError) as error:
            self._warn(pod, "FailedMount", str(error))
            raise
        except OSError as error:
            self._warn(pod, "FailedMount", str(error))
            raise RuntimeFailure(f"pod {pod.key}: {error}", reason="FailedMount") from error

    def start(self, pod: Pod, step: Start, sandbox: Sandbox) -> None:
        """Pull by policy, start, run the postStart hook (which may condemn the container)."""
        container = container_of(pod, step.name)
        assert container is not None
        try:
            wanted = spec.build(pod, container, self._parts(pod, container, step, sandbox))
        except ConfigError as error:
            self._warn(pod, "Failed", f"Error: {error}", container)
            raise RuntimeFailure(str(error), reason=CONFIG_REASON) from error
        policy = spec.pull_policy(container)
        try:
            if policy == "Always":
                self._pull(pod, container)
            try:
                identity = self._tools.runtime.start(wanted)
            except RuntimeFailure as error:
                if error.reason != "ErrImageNeverPull" or policy == "Never":
                    raise
                self._pull(pod, container)
                identity = self._tools.runtime.start(wanted)
        except RuntimeFailure as error:
            self._warn(pod, "Failed", f"Error: {error.reason}: {error}", container)
            raise
        self._tell(pod, "Started", f"Started container {container.name}", container)
        self._post_start(pod, container, identity, sandbox)

    def stop(self, pod: Pod, step: Stop, sandbox: Sandbox | None) -> None:
        """The preStop hook, then the signals, all within the grace (and two seconds more for an overrunning hook)."""
        container = container_of(pod, step.name)
        self._tell(pod, "Killing", step.why, container)
        begun_s = self._tools.clock.monotonic_s()
        hook = container.lifecycle.pre_stop if container is not None and step.hook else None
        left_s = step.grace_s
        if hook is not None and container is not None:
            target = target_of(step.id, self._address(pod, sandbox), container)
            result = self._tools.checker.run(hook, target, timeout_s=step.grace_s)
            if not result.ok:
                self._warn(pod, "FailedPreStopHook", f"PreStopHook failed: {result.message}", container)
            left_s = max(_HOOK_EXTRA_S, step.grace_s - (self._tools.clock.monotonic_s() - begun_s))
        self._tools.runtime.stop(step.id, grace_s=left_s)

    def remove(self, container_id: str) -> None:
        """Forget a dead container."""
        self._tools.runtime.remove(container_id)

    def clean_up(self, pod: Pod) -> None:
        """Volumes, files, logs."""
        uid = pod.metadata.uid
        self._paths.pop(uid, None)
        self._tools.volumes.remove(uid)
        _remove_tree(self._pod_dir(pod))
        for logs in Path(self.machine.log_dir).glob(f"*_{uid}"):  # of an orphan only the uid may be known
            _remove_tree(logs)

    def kept_pods(self) -> frozenset[str]:
        """The uids of the pods that this node keeps anything on disk for."""
        folders = Path(self.machine.root_dir, "pods").glob("*")
        return self._tools.volumes.pods() | {folder.name for folder in folders}

    def delete_pod(self, pod: Pod) -> None:
        """Tell the API that nothing of the pod is left here; that it is gone, or another of its name, is as good."""
        meta = pod.metadata
        with contextlib.suppress(NotFound, Conflict):
            self._tools.client.delete(PODS, meta.name, meta.namespace, uid=meta.uid, grace_s=0)

    def termination_message(self, pod: Pod, name: str, attempt: int) -> str:
        """What a dead container left for us, at most 4 KiB."""
        try:
            with open(self._message_path(pod, name, attempt), "rb") as file:
                return file.read(_MESSAGE_BYTES).decode(errors="replace")
        except OSError:
            return ""

    # -- inside

    def _parts(self, pod: Pod, container: Container, step: Start, sandbox: Sandbox) -> spec.Parts:
        maps, secrets = references(container)
        meta, here = pod.metadata, self.machine
        around = Surroundings(
            config_maps={name: self._reader.get(CONFIG_MAPS, ConfigMap, meta.namespace, name) for name in maps},
            secrets={name: self._reader.get(SECRETS, Secret, meta.namespace, name) for name in secrets},
            services=self._services(pod),
            pod_ip=self._address(pod, sandbox),
            host_ip=here.node_ip,
            node_cpu_milli=here.allocatable_cpu_milli,
            node_memory_bytes=here.allocatable_memory_bytes,
        )
        log = self._log_dir(pod) / container.name / f"{step.attempt}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return spec.Parts(
            sandbox=sandbox,
            attempt=step.attempt,
            streak=step.streak,
            around=around,
            volumes=self._paths[pod.metadata.uid],
            files=self._files(pod, container, step.attempt, sandbox),
            log_path=str(log),
            node_memory_bytes=here.memory_bytes,
        )

    def _files(self, pod: Pod, container: Container, attempt: int, sandbox: Sandbox) -> tuple[Mount, ...]:
        """The termination log, and /etc/hosts where the pod has a network of its own."""
        folder = self._pod_dir(pod)
        message = self._message_path(pod, container.name, attempt)
        message.parent.mkdir(parents=True, exist_ok=True)
        message.touch(mode=0o666)
        message.chmod(0o666)
        mounts = [Mount(str(message), container.termination_message_path)]
        taken = {mount.mount_path for mount in container.volume_mounts}
        if sandbox.address and "/etc/hosts" not in taken:
            hosts = folder / "etc-hosts"
            hosts.write_text(spec.hosts_file(pod, sandbox.address), encoding="utf-8")
            mounts.append(Mount(str(hosts), "/etc/hosts"))
        return tuple(mounts)

    def _services(self, pod: Pod) -> dict[str, str]:
        """The variables of the API's own service, and with `enableServiceLinks` of all in the pod's namespace."""
        namespace = pod.metadata.namespace
        found = [self._reader.get(SERVICES, Service, "default", "kubernetes")]
        if pod.spec.enable_service_links:
            found += self._reader.services(namespace)
        return service_env(service for service in found if service is not None)

    def _pull(self, pod: Pod, container: Container) -> None:
        self._tell(pod, "Pulling", f'Pulling image "{container.image}"', container)
        try:
            self._tools.runtime.pull(container.image)
        except RuntimeFailure as error:
            raise RuntimeFailure(str(error), reason="ErrImagePull") from error
        self._tell(pod, "Pulled", f'Successfully pulled image "{container.image}"', container)

    def _post_start(self, pod: Pod, container: Container, identity: str, sandbox: Sandbox) -> None:
        hook = container.lifecycle.post_start
        if hook is None:
            return
        target = target_of(identity, self._address(pod, sandbox), container)
        result = self._tools.checker.run(hook, target, timeout_s=600.0)
        if not result.ok:
            self._warn(pod, "FailedPostStartHook", f"PostStartHook failed: {result.message}", container)
            self._tools.runtime.stop(identity, grace_s=float(pod.spec.termination_grace_period_seconds))

    def _address(self, pod: Pod, sandbox: Sandbox | None) -> str:
        if pod.spec.host_network:
            return self.machine.node_ip
        return sandbox.address if sandbox is not None else pod.status.pod_ip

    def _pod_dir(self, pod: Pod) -> Path:
        return Path(self.machine.root_dir) / "pods" / pod.metadata.uid

    def _message_path(self, pod: Pod, name: str, attempt: int) -> Path:
        return self._pod_dir(pod) / "containers" / name / f"termination-{attempt}"

    def _log_dir(self, pod: Pod) -> Path:
        meta = pod.metadata
        return Path(self.machine.log_dir) / f"{meta.namespace}_{meta.name}_{meta.uid}"

    def _tell(self, pod: Pod, reason: str, message: str, container: Container | None = None) -> None:
        self._tools.recorder.normal(about(pod, container), reason, message)

    def _warn(self, pod: Pod, reason: str, message: str, container: Container | None = None) -> None:
        self._tools.recorder.warning(about(pod, container), reason, message)


def about(pod: Pod, container: Container | None = None) -> Reference:
    """What an Event of a pod, or of one of its containers, refers to."""
    meta = pod.metadata
    path = ""
    if container is not None:
        kind = "initContainers" if container in pod.spec.init_containers else "containers"
        path = f"spec.{kind}{{{container.name}}}"
    return Reference(
        api_version="v1", kind="Pod", name=meta.name, namespace=meta.namespace, uid=meta.uid, field_path=path
    )


def _remove_tree(path: Path) -> None:
    """Delete a folder and what is in it, never through a symbolic link."""
    if path.is_symlink() or not path.is_dir():
        return
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _remove_tree(entry)
        else:
            entry.unlink(missing_ok=True)
    path.rmdir()
