"""What the lab shall be: lab.yaml, flags and environment, decoded into frozen structs.

The only reader of the environment and of lab.yaml. A mistake is a UsageError that names file, line and field.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from labctl import fields
from labctl.fields import FieldError
from labctl.kube import quantity
from labctl.kube.fencing import DEFAULT as DEFAULT_FENCING
from labctl.kube.fencing import Mode
from labctl.kube.timing import PROFILES
from labctl.runtime.errors import UsageError

LAB_FILE = "lab.yaml"
DEFAULT_NAME = "lab"
MAX_MASTERS, MAX_WORKERS = 7, 200  # what the address plan of a /24 holds (see vm/topology.py)

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$")]
NodeName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Size = str  # a quantity with a unit: 1Gi, 1024Mi


class TaintConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As in a Node's `spec.taints`."""

    key: str
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    value: str = ""


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One machine of lab.yaml. `cpus`: by default 2 for a master, as kubeadm asks for, and 1 for a worker."""

    cpus: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    memory: Size = "1Gi"
    disk: Size = "6Gi"
    labels: Mapping[str, str] = {}
    taints: tuple[TaintConfig, ...] = ()


class FencingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How pods of a StatefulSet leave a silent node; see labctl/kube/fencing.py.

    `command` is run by this host's shell in place of the provider, with LABCTL_NODE and LABCTL_ADDRESS set. It must end
    with 0 only once that machine is confirmed off; what it prints is kept as the evidence.
    """

    mode: Mode = DEFAULT_FENCING
    command: str | None = None


Nodes = Annotated[int, msgspec.Meta(ge=0)] | tuple[NodeConfig, ...]


class LabConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """lab.yaml. `None` means: not said, so keep what the lab has, or take the default."""

    name: Name | None = None
    provider: str | None = None
    network: str | None = None
    cluster_cidr: str | None = None
    service_cidr: str | None = None
    masters: Nodes | None = None
    workers: Nodes | None = None
    profile: str | None = None
    box: str | None = None
    fencing: Mode | FencingConfig | None = None

    def merged(self, **flags: Any) -> LabConfig:
        """This configuration with the given flags on top; a flag that is None changes nothing."""
        return msgspec.structs.replace(self, **{key: value for key, value in flags.items() if value is not None})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where things are, from the environment."""

    state_root: Path  # LABCTL_STATE_DIR; holds a folder per lab
    cache_dir: Path  # LABCTL_CACHE_DIR; holds built boxes
    project_root: Path  # where the Vagrantfile and playbooks/ stand
    debug: bool


def settings(environ: Mapping[str, str] = os.environ, cwd: Path | None = None) -> Settings:
    """Read the environment. Without LABCTL_STATE_DIR a lab's state is in `.labctl`, here or in a folder above."""
    here = (cwd or Path.cwd()).resolve()
    if stated := environ.get("LABCTL_STATE_DIR"):
        state_root = Path(stated).resolve()
    else:
        state_root = next((d / ".labctl" for d in (here, *here.parents) if (d / ".labctl").is_dir()), here / ".labctl")
    if cached := environ.get("LABCTL_CACHE_DIR"):
        cache_dir = Path(cached).resolve()
    elif os.geteuid() == 0:
        cache_dir = Path("/var/cache/labctl")  # the hypervisor's own user must reach it
    else:
        cache_dir = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labctl"
    return Settings(
        state_root=state_root,
        cache_dir=cache_dir,
        project_root=Path(__file__).resolve().parents[1],
        debug=bool(environ.get("LABCTL_DEBUG")),
    )


def load(path: Path | None, *, cwd: Path | None = None) -> LabConfig:
    """Read `path`; without one, lab.yaml of the current folder if it is there, else an empty configuration."""
    if path is None:
        path = (cwd or Path.cwd()) / LAB_FILE
        if not path.exists():
            return LabConfig()
    return parse(fields.read(path), str(path))


def parse(text: str, source: str) -> LabConfig:
    """Decode and check the text of a lab.yaml; `source` names it in errors."""

    def decode(data: object) -> LabConfig:
        config: LabConfig = fields.convert(data, LabConfig, _fields_at)
        _check(config)
        return config

    return fields.parse(text, source, decode)


def check(config: LabConfig) -> LabConfig:
    """The same checks for a configuration that flags changed; UsageError names the field."""
    try:
        _check(config)
    except FieldError as error:
        raise UsageError(str(error)) from error
    return config


def size_mib(size: Size) -> int:
    """A size in MiB, rounded up."""
    return -(-quantity.whole(size) // 2**20)


def _fields_at(path: fields.Path_) -> tuple[str, ...]:
    kind: type[msgspec.Struct] = LabConfig
    if "taints" in path:
        kind = TaintConfig
    elif path[:1] == ("fencing",):
        kind = FencingConfig
    elif path:
        kind = NodeConfig
    return kind.__struct_fields__


def _check(config: LabConfig) -> None:
    """The rules that types cannot say."""
    if config.profile is not None and config.profile not in PROFILES:
        raise FieldError(("profile",), f"{config.profile!r} is not one of {', '.join(PROFILES)}")
    for field, most in (("masters", MAX_MASTERS), ("workers", MAX_WORKERS)):
        nodes = getattr(config, field)
        count = nodes if isinstance(nodes, int) else len(nodes or ())
        if count > most:
            raise FieldError((field,), f"{count} are too many; at most {most} fit the lab's network")
        if field == "masters" and nodes is not None and count % 2 == 0:
            raise FieldError((field,), f"{count} masters cannot form a useful etcd quorum; take 1, 3, 5 or 7")
        if not isinstance(nodes, int):
            for index, node in enumerate(nodes or ()):
                _check_size((field, index, "memory"), node.memory, "256Mi")
                _check_size((field, index, "disk"), node.disk, "4Gi")
    networks = {field: _network(field, getattr(config, field)) for field in ("network", "cluster_cidr", "service_cidr")}
    known = [(field, network) for field, network in networks.items() if network is not None]
    for index, (field, network) in enumerate(known):
        for other, second in known[:index]:
            if network.overlaps(second):
                raise FieldError((field,), f"{network} overlaps {other} {second}")
    lab_network = networks["network"]
    if lab_network is not None and lab_network.prefixlen != 24:
        raise FieldError(("network",), f"{lab_network} must be a /24, e.g. 10.77.0.0/24")


def _check_size(path: tuple[str | int, ...], size: Size, least: str) -> None:
    try:
        value = quantity.whole(size)
    except ValueError as error:
        raise FieldError(path, f"{size!r} is not a size; write e.g. 1Gi or 1536Mi") from error
    if value < quantity.whole(least):
        raise FieldError(path, f"{size} is too little for a node; at least {least}")


def _network(field: str, text: str | None) -> IPv4Network | None:
    if text is None:
        return None
    try:
        return IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise FieldError((field,), f"{text!r} is not a network: {error}") from error
