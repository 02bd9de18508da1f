"""A container of a pod: environment, probes, hooks, resources. Source: k8s.io/api `core/v1/types.go`."""

from __future__ import annotations

from agents.kubelet.views.base import IntOrString, Quantity, View


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
    stdin_once: bool = False
    termination_message_path: str = "/dev/termination-log"
