"""From a pod's container to what the runtime starts. Pure.

Source: k/k `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go`, `pkg/kubelet/cm/helpers_linux.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agents.kubelet import env
from agents.kubelet.env import ConfigError, Surroundings
from agents.kubelet.qos import limits, oom_score_adj, requests
from agents.kubelet.runtime import ContainerSpec, Limits, Mount, PodRef, Sandbox
from agents.kubelet.seen import GRACE, IMAGE, SANDBOX, STREAK, sandbox_label
from agents.kubelet.views import Container, Pod, VolumeMount

_PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}
_HOST_NAME_MAX = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a container is put together from, besides the pod's own document."""

    sandbox: Sandbox
    attempt: int
    streak: int
    around: Surroundings
    volumes: Mapping[str, str]  # volume name -> host path
    files: tuple[Mount, ...] = ()  # /etc/hosts, the termination log
    log_path: str = ""
    node_memory_bytes: int = 0


def build(pod: Pod, container: Container, parts: Parts) -> ContainerSpec:
    """Put it together; ConfigError where the specification cannot be met."""
    variables = env.environment(pod, container, parts.around)
    security = container.security_context
    return ContainerSpec(
        pod=ref(pod),
        name=container.name,
        attempt=parts.attempt,
        image=container.image,
        command=tuple(env.expand(word, variables) for word in container.command),
        args=tuple(env.expand(word, variables) for word in container.args),
        env=variables,
        mounts=(*parts.files, *(_mount(pod, mount, parts, variables) for mount in container.volume_mounts)),
        sandbox=parts.sandbox,
        hostname=hostname(pod),
        limits=_limits(pod, container, parts.node_memory_bytes),
        working_dir=container.working_dir,
        user=_user(pod, container),
        groups=_groups(pod),
        privileged=security.privileged,
        read_only_root=security.read_only_root_filesystem,
        add_capabilities=security.capabilities.add,
        drop_capabilities=security.capabilities.drop,
        host_pid=pod.spec.host_pid,
        tty=container.tty,
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        log_path=parts.log_path,
        labels={
            STREAK: str(parts.streak),
            SANDBOX: sandbox_label(parts.sandbox),
            IMAGE: container.image,
            GRACE: str(pod.spec.termination_grace_period_seconds),
        },
    )


def ref(pod: Pod) -> PodRef:
    """Which pod it is."""
    return PodRef(pod.metadata.uid, pod.metadata.namespace, pod.metadata.name)


def hostname(pod: Pod) -> str:
    """`spec.hostname`, else the pod's name cut to what a host name may be; "" (the node's own) on the host network."""
    if pod.spec.host_network:
        return ""
    return (pod.spec.hostname or pod.metadata.name)[:_HOST_NAME_MAX].rstrip("-.")


def hosts_file(pod: Pod, address: str) -> str:
    """/etc/hosts of a pod with its own network."""
    names = hostname(pod)
    if pod.spec.subdomain:
        names = f"{names}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.cluster.local\t{names}"
    lines = ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{names}"]
    lines += ["\t".join((alias.ip, *alias.hostnames)) for alias in pod.spec.host_aliases]
    return "\n".join(lines) + "\n"


def host_ports(pod: Pod) -> tuple[tuple[int, int, str], ...]:
    """(host port, container port, protocol) of every port that asks for one."""
    if pod.spec.host_network:
        return ()
    every = (port for container in (*pod.spec.containers, *pod.spec.init_containers) for port in container.ports)
    return tuple((port.host_port, port.container_port, port.protocol.lower()) for port in every if port.host_port)


def pull_policy(container: Container) -> str:
    """The policy, with Kubernetes' default: Always for `:latest` and untagged images, else IfNotPresent."""
    if container.image_pull_policy:
        return container.image_pull_policy
    name, _, digest = container.image.partition("@")
    tag = name.rpartition(":")[2] if ":" in name.rpartition("/")[2] else "latest"
    return "Always" if tag == "latest" and not digest else "IfNotPresent"


def _mount(pod: Pod, mount: VolumeMount, parts: Parts, variables: Mapping[str, str]) -> Mount:
    path = parts.volumes.get(mount.name)
    if path is None:
        raise ConfigError(f'volume "{mount.name}" of pod {pod.key} is not there')
    inside = env.expand(mount.sub_path_expr, variables) if mount.sub_path_expr else mount.sub_path
    if inside:
        if inside.startswith("/") or ".." in inside.split("/"):
            raise ConfigError(f'subPath "{inside}" must stay within its volume')
        path = f"{path}/{inside}"
    return Mount(path, mount.mount_path, mount.read_only, _PROPAGATION.get(mount.mount_propagation, ""))


def _limits(pod: Pod, container: Container, node_memory_bytes: int) -> Limits:
    wanted, capped = requests(container), limits(container)
    return Limits(
        cpu_request_milli=wanted.get("cpu", 0),
        cpu_limit_milli=capped.get("cpu", 0),
        memory_limit_bytes=capped.get("memory", 0),
        oom_score_adj=oom_score_adj(pod, container, node_memory_bytes),
    )


def _groups(pod: Pod) -> tuple[int, ...]:
    shared = pod.spec.security_context
    return (*shared.supplemental_groups, *(() if shared.fs_group is None else (shared.fs_group,)))


def _user(pod: Pod, container: Container) -> str:
    own, shared = container.security_context, pod.spec.security_context
    user = own.run_as_user if own.run_as_user is not None else shared.run_as_user
    group = own.run_as_group if own.run_as_group is not None else shared.run_as_group
    strict = own.run_as_non_root if own.run_as_non_root is not None else shared.run_as_non_root
    if strict and user == 0:
        raise ConfigError("container's runAsUser breaks non-root policy")
    if strict and user is None:
        raise ConfigError("container has runAsNonRoot and the image's user cannot be verified: set runAsUser")
    if user is None:
        return "" if group is None else f"0:{group}"
    return str(user) if group is None else f"{user}:{group}"
