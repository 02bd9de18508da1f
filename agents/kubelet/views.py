"""Frozen views of the objects the kubelet reads: only the fields it acts on. Source: k8s.io/api `core/v1/types.go`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_CAPITALS = {"ip": "IP", "ips": "IPs", "pid": "PID", "ipc": "IPC", "id": "ID", "cidr": "CIDR", "api": "API"}

Quantity = str | int | float
IntOrString = int | str


def field_name(name: str) -> str:
    """`pod_ip` to `podIP`: Kubernetes' own capitals."""
    first, *rest = name.split("_")
    return first + "".join(_CAPITALS.get(part) or part.capitalize() for part in rest)


class View(msgspec.Struct, frozen=True, omit_defaults=True, rename=field_name):
    """Base of every view: frozen, unknown fields ignored, absent fields at their Kubernetes defaults."""


class OwnerReference(View, frozen=True):
    """Who an object belongs to."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Meta(View, frozen=True):
    """`metav1.ObjectMeta`."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class KeySelector(View, frozen=True):
    """A key of a config map or secret."""

    name: str = ""
    key: str = ""
    optional: bool = False


class FieldRef(View, frozen=True):
    """A field of the pod, e.g. `status.podIP` or `metadata.labels['app']`."""

    field_path: str = ""


class ResourceFieldRef(View, frozen=True):
    """A container's request or limit, e.g. `limits.cpu`."""

    resource: str = ""
    container_name: str = ""
    divisor: Quantity = "0"


class EnvSource(View, frozen=True):
    """Where a variable's value comes from; at most one is set."""

    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None


class EnvVar(View, frozen=True):
    """One variable."""

    name: str
    value: str = ""
    value_from: EnvSource | None = None


class NameRef(View, frozen=True):
    """An object by name, perhaps optional."""

    name: str = ""
    optional: bool = False


class EnvFrom(View, frozen=True):
    """Every key of a config map or secret as a variable."""

    prefix: str = ""
    config_map_ref: NameRef | None = None
    secret_ref: NameRef | None = None


class HttpHeader(View, frozen=True):
    """A request header."""

    name: str
    value: str = ""


class HttpGet(View, frozen=True):
    """A GET; 200 to 399 is success."""

    path: str = "/"
    port: IntOrString = 0
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[HttpHeader, ...] = ()


class ExecAction(View, frozen=True):
    """A command inside the container; 0 is success."""

    command: tuple[str, ...] = ()


class TcpSocket(View, frozen=True):
    """A connection that opens is success."""

    port: IntOrString = 0
    host: str = ""


class GrpcAction(View, frozen=True):
    """A gRPC health check; read so that it can be refused by name."""

    port: int = 0
    service: str = ""


class SleepAction(View, frozen=True):
    """Wait."""

    seconds: int = 0


class Probe(View, frozen=True):
    """A probe with Kubernetes' default timings."""

    exec: ExecAction | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: GrpcAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class Handler(View, frozen=True):
    """A lifecycle hook; one is set."""

    exec: ExecAction | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    sleep: SleepAction | None = None


class Lifecycle(View, frozen=True):
    """Hooks after start and before stop."""

    post_start: Handler | None = None
    pre_stop: Handler | None = None


class Resources(View, frozen=True):
    """Requests and limits by resource name."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class ContainerPort(View, frozen=True):
    """A port the container listens on."""

    name: str = ""
    container_port: int = 0
    host_port: int = 0
    host_ip: str = ""
    protocol: str = "TCP"


class VolumeMount(View, frozen=True):
    """Where a volume appears."""

    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""
    sub_path_expr: str = ""
    mount_propagation: str = ""


class Capabilities(View, frozen=True):
    """Linux capabilities."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class ContainerSecurity(View, frozen=True):
    """A container's securityContext."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    privileged: bool = False
    read_only_root_filesystem: bool = False
    capabilities: Capabilities = Capabilities()


class Container(View, frozen=True):
    """A container, or init container, of a pod."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    resources: Resources = Resources()
    volume_mounts: tuple[VolumeMount, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()
    image_pull_policy: str = ""
    security_context: ContainerSecurity = ContainerSecurity()
    restart_policy: str = ""  # Always makes an init container a sidecar
    tty: bool = False
    stdin: bool = False
    termination_message_path: str = "/dev/termination-log"


class KeyToPath(View, frozen=True):
    """One key of a config map or secret as a file."""

    key: str
    path: str
    mode: int | None = None


class DownwardFile(View, frozen=True):
    """A field of the pod as a file."""

    path: str
    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    mode: int | None = None


class EmptyDir(View, frozen=True):
    """A directory as old as the pod."""

    medium: str = ""
    size_limit: Quantity | None = None


class HostPath(View, frozen=True):
    """A path of the node; `type` says what must be there."""

    path: str
    type: str = ""


class ConfigMapVolume(View, frozen=True):
    """A config map as files."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class SecretVolume(View, frozen=True):
    """A secret as files."""

    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class DownwardVolume(View, frozen=True):
    """The pod's own fields as files."""

    items: tuple[DownwardFile, ...] = ()
    default_mode: int = 0o644


class ProjectedConfigMap(View, frozen=True):
    """A config map within a projected volume."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class ProjectedToken(View, frozen=True):
    """A service account token within a projected volume."""

    path: str = "token"
    audience: str = ""
    expiration_seconds: int = 3600


class ProjectedDownward(View, frozen=True):
    """The pod's fields within a projected volume."""

    items: tuple[DownwardFile, ...] = ()


class Projection(View, frozen=True):
    """One source of a projected volume; one is set."""

    config_map: ProjectedConfigMap | None = None
    secret: ProjectedConfigMap | None = None
    service_account_token: ProjectedToken | None = None
    downward_api: ProjectedDownward | None = None


class ProjectedVolume(View, frozen=True):
    """Several sources in one directory."""

    sources: tuple[Projection, ...] = ()
    default_mode: int = 0o644


class ClaimVolume(View, frozen=True):
    """A persistent volume claim; read so that it can be refused by name."""

    claim_name: str = ""
    read_only: bool = False


class Volume(View, frozen=True):
    """A pod's volume; one source is set (none of those below: a kind that is not supported)."""

    name: str
    empty_dir: EmptyDir | None = None
    host_path: HostPath | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    projected: ProjectedVolume | None = None
    downward_api: DownwardVolume | None = None
    persistent_volume_claim: ClaimVolume | None = None


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

    metadata: Meta = Meta()
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


class ConfigMap(View, frozen=True):
    """A config map; `binary_data` is base64."""

    metadata: Meta = Meta()
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}


class Secret(View, frozen=True):
    """A secret; `data` is base64."""

    metadata: Meta = Meta()
    data: dict[str, str] = {}
    type: str = ""


class Taint(View, frozen=True):
    """A taint of a node."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(View, frozen=True):
    """`spec` of a node."""

    pod_cidr: str = ""
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class NodeStatus(View, frozen=True):
    """`status` of a node."""

    conditions: tuple[Condition, ...] = ()
    capacity: dict[str, Quantity] = {}
    allocatable: dict[str, Quantity] = {}


class Node(View, frozen=True):
    """A node."""

    metadata: Meta = Meta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


def without_nulls(value: Any) -> Any:
    """A document without its null fields, which Kubernetes reads as absent."""
    if isinstance(value, Mapping):
        return {key: without_nulls(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [without_nulls(entry) for entry in value if entry is not None]
    return value


_PODS = msgspec.json.Decoder(Pod)


def read_pod(raw: bytes | msgspec.Raw) -> Pod:
    """Decode a pod; null fields count as absent. Raises msgspec.ValidationError where a field has a wrong type."""
    try:
        return _PODS.decode(raw)
    except msgspec.ValidationError:
        return msgspec.convert(without_nulls(msgspec.json.decode(raw)), Pod)
