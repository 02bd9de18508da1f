"""The other objects that the kubelet reads: ConfigMaps, Secrets, its Node. Source: k8s.io/api `core/v1/types.go`."""

from __future__ import annotations

from agents.kubelet.views.base import Quantity, View
from agents.kubelet.views.pods import Condition
from labctl.kube.meta import ObjectMeta


class ConfigMap(View, frozen=True):
    """A config map; `binary_data` is base64."""

    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}


class Secret(View, frozen=True):
    """A secret; `data` is base64."""

    metadata: ObjectMeta = ObjectMeta()
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

    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()
