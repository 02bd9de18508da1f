"""What a kubelet may do: its own Node, Lease and pods, and only what those pods refer to.

Writes to nodes and pods pass here and are held to the node's own by NodeRestriction, which sees the objects.
Source: k/k `plugin/pkg/auth/authorizer/node/node_authorizer.go`, `pkg/auth/nodeidentifier/default.go`.
"""

from __future__ import annotations

from collections.abc import Callable

from master.apiserver.authz.attributes import Attributes
from master.apiserver.authz.graph import CLAIMS, CONFIG_MAPS, SECRETS, Graph
from master.apiserver.policy import node_rules
from master.apiserver.request import User

_GROUP, _PREFIX = "system:nodes", "system:node:"
_LEASES = "kube-node-lease"
_READ = frozenset({"get", "list", "watch"})
_OWN_VERBS = frozenset({"get", "create", "update", "patch", "delete"})

ALLOWED, SILENT = None, ""  # SILENT: not for this authorizer to say
Verdict = str | None  # a refusal's reason otherwise


def node_of(user: User) -> str | None:
    """The node that a user speaks for; None for everybody else."""
    if not user.name.startswith(_PREFIX) or _GROUP not in user.groups:
        return None
    return user.name.removeprefix(_PREFIX)


class NodeAuthorizer:
    """Decides for kubelets."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._rules = graph, node_rules()
        self._judges: dict[tuple[str, str], Callable[[str, Attributes], Verdict]] = {
            ("", SECRETS): self._read_one,
            ("", CONFIG_MAPS): self._read_one,
            ("", CLAIMS): self._claim,
            ("", "persistentvolumes"): self._get,
            ("resource.k8s.io", "resourceclaims"): self._get,
            ("storage.k8s.io", "volumeattachments"): self._get,
            ("", "serviceaccounts"): self._account,
            ("coordination.k8s.io", "leases"): _lease,
            ("storage.k8s.io", "csinodes"): _csi_node,
            ("resource.k8s.io", "resourceslices"): _slice,
            ("", "nodes"): _node,
            ("", "pods"): self._pod,
        }

    def judge(self, node: str, wanted: Attributes) -> Verdict:
        """ALLOWED, SILENT, or the reason to refuse, in upstream's words."""
        if judge := self._judges.get((wanted.group, wanted.resource)):
            return judge(node, wanted)
        if not wanted.resource:
            return SILENT
        for rule in self._rules:
            if rule.has_verb(wanted.verb) and rule.has_resource(wanted.group, wanted.combined):
                return ALLOWED
        return SILENT

    def _related(self, node: str, wanted: Attributes) -> Verdict:
        if not wanted.name:
            return "No Object name found"
        if self._graph.needs(node, wanted.resource, wanted.namespace, wanted.name):
            return ALLOWED
        return f"no relationship found between node '{node}' and this object"

    def _get(self, node: str, wanted: Attributes) -> Verdict:
        if wanted.verb != "get":
            return "can only get individual resources of this type"
        return "cannot get subresource" if wanted.subresource else self._related(node, wanted)

    def _read_one(self, node: str, wanted: Attributes) -> Verdict:
        if wanted.verb not in _READ:
            return "can only read resources of this type"
        if wanted.subresource:
            return "cannot read subresource"
        if not wanted.namespace:
            return "can only read namespaced object of this type"
        return self._related(node, wanted)

    def _claim(self, node: str, wanted: Attributes) -> Verdict:
        if wanted.subresource != "status":
            return self._get(node, wanted)
        if wanted.verb not in {"update", "patch"}:
            return "can only get/update/patch this type"
        return self._related(node, wanted)

    def _account(self, node: str, wanted: Attributes) -> Verdict:
        if wanted.verb == "get" and not wanted.subresource:
            return self._read_one(node, wanted)
        if wanted.verb != "create" or not wanted.name:
            return "can only create tokens for individual service accounts"
        if wanted.subresource != "token":
            return "can only create token subresource of serviceaccount"
        return self._related(node, wanted)

    def _pod(self, node: str, wanted: Attributes) -> Verdict:
        what = (wanted.subresource, wanted.verb)
        if what == ("", "get"):
            return self._get(node, wanted)
        if what in {("", "list"), ("", "watch")}:
            if wanted.selects("spec.nodeName") == node:
                return ALLOWED
            if wanted.name:
                return self._related(node, wanted)
            return "can only list/watch pods with spec.nodeName field selector"
        writes = {("", "create"), ("", "delete"), ("status", "update"), ("status", "patch"), ("eviction", "create")}
        return ALLOWED if what in writes else SILENT


def _node(node: str, wanted: Attributes) -> Verdict:
    what = (wanted.subresource, wanted.verb)
    if what in {("", "create"), ("", "update"), ("", "patch"), ("status", "update"), ("status", "patch")}:
        return ALLOWED
    if wanted.subresource or wanted.verb not in _READ:
        return SILENT
    if wanted.name == node:
        return ALLOWED
    other = f"'{wanted.name}'" if wanted.name else "all nodes"
    return f"node '{node}' cannot read {other}, only its own Node object"


def _lease(node: str, wanted: Attributes) -> Verdict:
    if wanted.verb not in _OWN_VERBS:
        return "can only get, create, update, patch, or delete a node lease"
    if wanted.namespace != _LEASES:
        return f'can only access leases in the "{_LEASES}" system namespace'
    if wanted.verb != "create" and wanted.name != node:
        return "can only access node lease with the same name as the requesting node"
    return ALLOWED


def _csi_node(node: str, wanted: Attributes) -> Verdict:
    if wanted.subresource:
        return "cannot authorize CSINode subresources"
    if wanted.verb not in _OWN_VERBS:
        return "can only get, create, update, patch, or delete a CSINode"
    if wanted.verb != "create" and wanted.name != node:
        return "can only access CSINode with the same name as the requesting node"
    return ALLOWED


def _slice(node: str, wanted: Attributes) -> Verdict:
    """Nothing here drives devices: a node may look after the slices that name it, as the selector says."""
    if wanted.subresource:
        return "cannot authorize ResourceSlice subresources"
    if wanted.verb == "create":
        return ALLOWED
    if wanted.verb in {"watch", "list", "deletecollection"} and wanted.selects("spec.nodeName") == node:
        return ALLOWED
    return "can only list/watch/deletecollection resourceslices with nodeName field selector"
