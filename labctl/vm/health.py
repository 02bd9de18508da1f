"""What the lab's API says of itself and of its nodes; the questions that `up` and `status` ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from labctl.kube.client import Client
from labctl.kube.errors import ApiError
from labctl.kube.resources import LEASES, NODES

_EXCEPT = {"exclude": "poststarthook/rbac/bootstrap-roles"}


class _Condition(msgspec.Struct, frozen=True):
    type: str
    status: str


class _Image(msgspec.Struct, frozen=True):
    names: tuple[str, ...] = ()


class _Status(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] = ()
    images: tuple[_Image, ...] = ()


class _Meta(msgspec.Struct, frozen=True):
    name: str


class _Node(msgspec.Struct, frozen=True):
    metadata: _Meta
    status: _Status = _Status()


class _Lease(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: dict[str, Any] = {}


def api_ready(client: Client) -> bool:
    """Whether the API server calls itself ready, at least for us and the cluster's own components.

    The rest of the default policy is written while the nodes come up: 125 objects take an emulated machine long.
    """
    try:
        return client.request("GET", "/readyz", query=_EXCEPT, timeout_s=3.0) == b"ok"
    except ApiError:
        return False


def ready_conditions(client: Client) -> dict[str, str]:
    """Each Node's Ready condition: True, False, Unknown, or "" where it has none."""
    return {
        node.metadata.name: next((c.status for c in node.status.conditions if c.type == "Ready"), "")
        for node in _nodes(client)
    }


def nodes_with(client: Client, image: str) -> set[str]:
    """The nodes that say they have an image of that name."""
    return {node.metadata.name for node in _nodes(client) if any(image in one.names for one in node.status.images)}


def _nodes(client: Client) -> Iterator[_Node]:
    return (msgspec.json.decode(raw, type=_Node) for raw in client.list(NODES).items)


def heartbeats(client: Client) -> dict[str, str]:
    """When each node last renewed its Lease, by its own word."""
    leases = (msgspec.json.decode(raw, type=_Lease) for raw in client.list(LEASES, "kube-node-lease").items)
    return {lease.metadata.name: lease.spec.get("renewTime", "") for lease in leases}


class Arrivals:
    """Which nodes have come, from look to look.

    After a start the API still holds what the nodes said before it: with `fresh`, a node has come once it is Ready and
    its Lease has moved while we look.
    """

    def __init__(self, client: Client, *, fresh: bool) -> None:
        self._client, self._fresh = client, fresh
        self._first: dict[str, str] = {}

    def look(self) -> set[str]:
        """The nodes that are here now; none where the API falters, as one that has just started may."""
        try:
            conditions = ready_conditions(self._client)
            beats = heartbeats(self._client) if self._fresh else {}
        except ApiError:
            return set()
        for name in conditions:
            self._first.setdefault(name, beats.get(name, ""))
        moved = {name for name in conditions if not self._fresh or beats.get(name, "") != self._first[name]}
        return {name for name, status in conditions.items() if status == "True"} & moved
