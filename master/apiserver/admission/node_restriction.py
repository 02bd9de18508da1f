"""NodeRestriction: a kubelet writes its own Node, Lease and CSINode, the status of its own pods, mirror pods; no more.

Source: k/k `plugin/pkg/admission/noderestriction/admission.go`, `k8s.io/kubelet/pkg/apis/well_known_labels.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labctl.kube.errors import Forbidden, NotFound
from labctl.kube.resources import NODES, PODS
from master.apiserver import problems
from master.apiserver.admit import Attributes, World
from master.apiserver.authz.attributes import Attributes as Wanted
from master.apiserver.authz.graph import names_objects
from master.apiserver.authz.node import node_of

Document = dict[str, Any]

_MIRROR = "kubernetes.io/config.mirror"
_RESTRICTED = "node-restriction.kubernetes.io"
_OWN_LABELS = frozenset({
    "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region", "node.kubernetes.io/instance-type", "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
})  # fmt: skip
_OWN_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")


class _NodeRestriction:
    name = "NodeRestriction"
    order = 15
    operations = frozenset({"create", "update", "delete"})
    resources = frozenset({
        "pods", "nodes", "persistentvolumeclaims", "serviceaccounts", "leases", "csinodes", "resourceslices",
    })  # fmt: skip

    def admit(self, write: Attributes, world: World) -> None:
        node = node_of(write.user)
        if node is None:
            return
        if not node:
            raise _refused(write, f'could not determine node from user "{write.user.name}"')
        _JUDGES[write.kind.resource.plural](node, write, world)


def _told(node: str) -> str:
    return f'node "{node}"'


def _refused(write: Attributes, why: str) -> Forbidden:
    return problems.forbidden(write.kind.resource, write.name, why)


def _pods(node: str, write: Attributes, world: World) -> None:
    if write.subresource == "status":
        _pod_status(node, write)
    elif write.subresource == "eviction":
        if _pod(write.namespace, write.name, world)["spec"].get("nodeName") != node:
            raise _refused(write, f"node {node} can only evict pods with spec.nodeName set to itself")
    elif write.subresource:
        why = f"unexpected pod subresource \"{write.subresource}\", only 'status' and 'eviction' are allowed"
        raise _refused(write, why)
    elif write.operation == "create":
        _mirror_pod(node, write, world)
    elif write.operation == "delete":
        if _pod(write.namespace, write.name, world)["spec"].get("nodeName") != node:
            raise _refused(write, f"{_told(node)} can only delete pods with spec.nodeName set to itself")
    else:
        why = f'unexpected operation "{write.operation.upper()}", node "{node}" can only create and delete mirror pods'
        raise _refused(write, why)


def _pod(namespace: str, name: str, world: World) -> Document:
    """As the cache has it, which knows whom the pod is bound to at once; else as the store has it."""
    kind = world.registry.of(PODS)
    found = world.storage.cache(kind).get(kind.key(namespace, name))
    return (found or world.storage.get(kind, namespace, name)).document


def _pod_status(node: str, write: Attributes) -> None:
    assert write.document is not None
    assert write.old is not None
    if write.old["spec"].get("nodeName") != node:
        why = "can only update pod status for pods with spec.nodeName set to itself"
        raise _refused(write, f"{_told(node)} {why}")
    if (write.document["metadata"].get("labels") or {}) != (write.old["metadata"].get("labels") or {}):
        raise _refused(write, f"{_told(node)} cannot update labels through pod status")
    for field, words in (
        ("resourceClaimStatuses", "resource claim statues"),
        ("extendedResourceClaimStatus", "extended resource claim status"),
    ):
        if (write.document.get("status") or {}).get(field) != (write.old.get("status") or {}).get(field):
            raise _refused(write, f"{_told(node)} cannot update {words}")


def _mirror_pod(node: str, write: Attributes, world: World) -> None:
    pod = write.document
    assert pod is not None
    metadata = pod["metadata"]
    if _MIRROR not in (metadata.get("annotations") or {}):
        why = f'pod does not have "{_MIRROR}" annotation, node "{node}" can only create mirror pods'
        raise _refused(write, why)
    if pod["spec"].get("nodeName") != node:
        raise _refused(write, f"{_told(node)} can only create pods with spec.nodeName set to itself")
    owners = metadata.get("ownerReferences") or ()
    if len(owners) > 1:
        raise _refused(write, f"{_told(node)} can only create pods with a single owner reference set to itself")
    owner = owners[0] if owners else {}
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        raise _refused(write, f"{_told(node)} can only create pods with an owner reference set to itself")
    if not owner.get("controller"):
        raise _refused(write, f"{_told(node)} can only create pods with a controller owner reference set to itself")
    if owner.get("blockOwnerDeletion"):
        raise _refused(write, f"{_told(node)} must not set blockOwnerDeletion on an owner reference")
    uid = world.storage.get(world.registry.of(NODES), "", node).document["metadata"]["uid"]
    if owner.get("uid") != uid:
        raise _refused(write, f"node {node} UID mismatch: expected {owner.get('uid')} got {uid}")
    if resource := names_objects(pod["spec"]):
        raise _refused(write, f"{_told(node)} can not create pods that reference {resource}")


def _nodes(node: str, write: Attributes, world: World) -> None:
    del world
    if write.name != node:
        raise _refused(write, f'{_told(node)} is not allowed to modify node "{write.name}"')
    if write.document is None:
        return
    old = write.old or {}
    labels = _modified(write.document["metadata"].get("labels") or {}, (old.get("metadata") or {}).get("labels") or {})
    forbidden = ", ".join(sorted(filter(_is_not_its_own, labels)))
    if write.operation == "create":
        if forbidden:
            raise _refused(write, f"{_told(node)} is not allowed to set the following labels: {forbidden}")
        return
    new_spec, old_spec = write.document.get("spec") or {}, old.get("spec") or {}
    if (new_spec.get("taints") or []) != (old_spec.get("taints") or []):
        raise _refused(write, f"{_told(node)} is not allowed to modify taints")
    if (write.document["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
        raise _refused(write, f"{_told(node)} is not allowed to modify ownerReferences")
    if forbidden:
        raise _refused(write, f"is not allowed to modify labels: {forbidden}")


def _modified(new: Mapping[str, str], old: Mapping[str, str]) -> set[str]:
    return {key for key in {*new, *old} if new.get(key) != old.get(key)}


def _is_not_its_own(label: str) -> bool:
    """Whether it would let a node draw pods to itself: labels of Kubernetes' own that are not for kubelets to set."""
    prefix, slash, _ = label.partition("/")
    if not slash:
        return False
    dotted = f".{prefix}"
    if dotted.endswith(f".{_RESTRICTED}"):
        return True
    if not dotted.endswith((".kubernetes.io", ".k8s.io")):
        return False
    return label not in _OWN_LABELS and not dotted.endswith(tuple(f".{own}" for own in _OWN_PREFIXES))


def _claims(node: str, write: Attributes, world: World) -> None:
    del world
    if write.subresource != "status" or write.document is None or write.old is None:
        raise _refused(write, "may only update PVC status")
    told = frozenset({"capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"})
    if _without(write.document, told) != _without(write.old, told):
        why = f"{_told(node)} is not allowed to update fields other than status.quantity and status.conditions"
        raise _refused(write, why)


def _without(document: Document, told: frozenset[str]) -> Document:
    kept = {key: value for key, value in (document.get("status") or {}).items() if key not in told}
    ignored = {"resourceVersion", "managedFields"}
    metadata = {key: value for key, value in document["metadata"].items() if key not in ignored}
    return {**document, "metadata": metadata, "status": kept}


def _accounts(node: str, write: Attributes, world: World) -> None:
    """A token is asked for on behalf of a pod of the node, for an audience that the pod asks for."""
    if write.operation != "create" or write.subresource != "token":
        return
    assert write.document is not None
    spec = write.document["spec"]
    ref = spec.get("boundObjectRef") or {}
    if ref.get("apiVersion") != "v1" or ref.get("kind") != "Pod" or not ref.get("name"):
        raise _refused(write, "node requested token not bound to a pod")
    if not ref.get("uid"):
        raise _refused(write, "node requested token with a pod binding without a uid")
    try:
        pod = _pod(write.namespace, ref["name"], world)
    except NotFound as error:
        raise _refused(write, error.message) from error
    if pod["metadata"]["uid"] != ref["uid"]:
        why = (
            f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record."
            " The object might have been deleted and then recreated"
        )
        raise _refused(write, why)
    if pod["spec"].get("nodeName") != node:
        raise _refused(write, "node requested token bound to a pod scheduled on a different node")
    _audience(write, world, pod, spec.get("audiences") or [""])


def _audience(write: Attributes, world: World, pod: Document, audiences: list[str]) -> None:
    if len(audiences) > 1:
        raise _refused(write, "node may only request 0 or 1 audiences")
    audience = audiences[0]
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            token = source.get("serviceAccountToken")
            if token is not None and (token.get("audience") or "") == audience:
                return
    wanted = Wanted(
        user=write.user,
        verb="request-serviceaccounts-token-audience",
        resource=audience or "*",
        namespace=write.namespace,
        name=write.name,
    )
    if not world.authorizer.decide(wanted).allowed:
        raise _refused(write, f'{write.user.name} is not authorized to request tokens for audience "{audience}"')


def _leases(node: str, write: Attributes, world: World) -> None:
    del world
    if write.namespace != "kube-node-lease":
        raise _refused(write, 'can only access leases in the "kube-node-lease" system namespace')
    if write.name != node:
        raise _refused(write, "can only access node lease with the same name as the requesting node")


def _csi_nodes(node: str, write: Attributes, world: World) -> None:
    del world
    if write.name != node:
        raise _refused(write, "can only access CSINode with the same name as the requesting node")


def _slices(node: str, write: Attributes, world: World) -> None:
    if write.operation == "delete":
        document = world.storage.get(write.kind, "", write.name).document
    else:
        document = write.old or write.document or {}
    if (document.get("spec") or {}).get("nodeName") != node:
        raise _refused(write, "can only access ResourceSlice with the same NodeName as the requesting node")


_JUDGES: dict[str, Callable[[str, Attributes, World], None]] = {
    "pods": _pods,
    "nodes": _nodes,
    "persistentvolumeclaims": _claims,
    "serviceaccounts": _accounts,
    "leases": _leases,
    "csinodes": _csi_nodes,
    "resourceslices": _slices,
}

ADMISSION = _NodeRestriction()
