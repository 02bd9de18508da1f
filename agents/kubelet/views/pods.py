"""A pod as a whole: spec and status. Source: k8s.io/api `core/v1/types.go`."""

from __future__ import annotations

from typing import Any

import msgspec

from agents.kubelet.views.base import View, without_nulls
from agents.kubelet.views.containers import Container
from agents.kubelet.views.volumes import Volume
from labctl.kube.meta import ObjectMeta


class Toleration(View, frozen=True):
    """A taint the pod bears."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class DnsOption(View, frozen=True):
    """A resolver option."""

    name: str = ""
    value: str | None = None


class DnsConfig(View, frozen=True):
    """What the pod adds to resolv.conf."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[DnsOption, ...] = ()


class HostAlias(View, frozen=True):
    """A line of /etc/hosts."""

    ip: str = ""
    hostnames: tuple[str, ...] = ()


class PodSecurity(View, frozen=True):
    """A pod's securityContext."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    fs_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()


class ReadinessGate(View, frozen=True):
    """A condition somebody else must set before the pod is ready."""

    condition_type: str = ""


class PodSpec(View, frozen=True):
    """`spec` of a pod."""

    node_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    hostname: str = ""
    subdomain: str = ""
    dns_policy: str = "ClusterFirst"
    dns_config: DnsConfig = DnsConfig()
    host_aliases: tuple[HostAlias, ...] = ()
    volumes: tuple[Volume, ...] = ()
    node_selector: dict[str, str] = {}
    security_context: PodSecurity = PodSecurity()
    service_account_name: str = ""
    enable_service_links: bool = True
    tolerations: tuple[Toleration, ...] = ()
    readiness_gates: tuple[ReadinessGate, ...] = ()
    priority: int = 0


class Condition(View, frozen=True):
    """A condition of a pod or node."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    last_probe_time: str | None = None
    last_heartbeat_time: str | None = None
    observed_generation: int = 0


class PriorContainer(View, frozen=True):
    """What we last told the API of a container."""

    name: str = ""
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: dict[str, Any] = {}
    last_state: dict[str, Any] = {}
    container_id: str = ""
    image: str = ""
    image_id: str = ""


class PodStatus(View, frozen=True):
    """`status` of a pod, as last written."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    start_time: str | None = None
    pod_ip: str = ""
    host_ip: str = ""
    qos_class: str = ""
    container_statuses: tuple[PriorContainer, ...] = ()
    init_container_statuses: tuple[PriorContainer, ...] = ()


class Pod(View, frozen=True):
    """A pod."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def terminating(self) -> bool:
        """Whether somebody asked for its deletion."""
        return bool(self.metadata.deletion_timestamp)


_PODS = msgspec.json.Decoder(Pod)


def read_pod(raw: bytes | msgspec.Raw) -> Pod:
    """Decode a pod; null fields count as absent. Raises msgspec.ValidationError where a field has a wrong type."""
    try:
        return _PODS.decode(raw)
    except msgspec.ValidationError:
        return msgspec.convert(without_nulls(msgspec.json.decode(raw)), Pod)
