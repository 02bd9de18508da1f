"""Which node needs which objects: those that the pods bound to it name.

It is brought up to date when somebody asks, from the pods that changed since.
Source: k/k `plugin/pkg/auth/authorizer/node/{graph,graph_populator}.go`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec

from labctl.kube.resources import PODS, builtin
from master.apiserver.registry import Registry
from master.apiserver.storage import Storage

CLAIMS, VOLUMES, ATTACHMENTS = "persistentvolumeclaims", "persistentvolumes", "volumeattachments"
SECRETS, CONFIG_MAPS, ACCOUNTS = "secrets", "configmaps", "serviceaccounts"
_MIRROR = "kubernetes.io/config.mirror"
_CURRENT_S = 5.0

Document = dict[str, Any]
Thing = tuple[str, str, str]  # resource, namespace, name


class _Meta(msgspec.Struct, frozen=True):
    name: str
    namespace: str
    annotations: dict[str, str] | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    resource_claim_statuses: list[Document] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: Document
    status: _Status = _Status()


_decode = msgspec.json.Decoder(_Pod).decode


class Graph:
    """See the module. Safe to share between threads."""

    def __init__(self, storage: Storage, registry: Registry) -> None:
        self._storage, self._registry = storage, registry
        self._lock = threading.Lock()
        self._changed: set[str] | None = None
        self._of_pod: dict[str, tuple[str, frozenset[Thing]]] = {}  # by the pod's key: its node, what it names
        self._needed: dict[str, dict[Thing, int]] = {}  # by node: how many of its pods name the thing

    def needs(self, node: str, resource: str, namespace: str, name: str) -> bool:
        """Whether a pod bound to `node` needs the object. A "no" is held against what the store has now."""
        if self._knows(node, (resource, namespace, name)):
            return True
        self._storage.cache(self._registry.of(PODS)).wait_current(deadline_s=_CURRENT_S)
        return self._knows(node, (resource, namespace, name))

    def _knows(self, node: str, thing: Thing) -> bool:
        with self._lock:
            self._refresh()
            needed = self._needed.get(node, {})
            if thing in needed:
                return True
            claims = [(one[1], one[2]) for one in needed if one[0] == CLAIMS]
        resource, namespace, name = thing
        if resource == ATTACHMENTS:
            return bool(self._spec(ATTACHMENTS, "storage.k8s.io", "", name).get("nodeName") == node)
        if resource not in {VOLUMES, SECRETS}:
            return False
        volumes = {str(self._spec(CLAIMS, "", *claim).get("volumeName", "")) for claim in claims} - {""}
        if resource == VOLUMES:
            return name in volumes
        return any((namespace, name) in self._secrets_of(volume) for volume in volumes)

    def _refresh(self) -> None:
        cache = self._storage.cache(self._registry.of(PODS))
        if self._changed is None:
            self._changed = cache.follow()
        while self._changed:
            key = self._changed.pop()
            found = cache.get(key)
            self._forget(key)
            if found is not None:
                self._learn(key, found.raw)

    def _forget(self, key: str) -> None:
        node, things = self._of_pod.pop(key, ("", frozenset()))
        needed = self._needed.get(node, {})
        for thing in things:
            needed[thing] -= 1
            if not needed[thing]:
                del needed[thing]
        if not needed:
            self._needed.pop(node, None)

    def _learn(self, key: str, raw: bytes) -> None:
        pod = _decode(raw)
        if not (node := pod.spec.get("nodeName")):
            return
        things = frozenset(_named(pod))
        self._of_pod[key] = (node, things)
        needed = self._needed.setdefault(node, {})
        for thing in things:
            needed[thing] = needed.get(thing, 0) + 1

    def _spec(self, resource: str, group: str, namespace: str, name: str) -> Document:
        kind = self._registry.of(builtin(resource, group))
        found = self._storage.cache(kind).get(kind.key(namespace, name))
        spec: Document = (found.document.get("spec") or {}) if found is not None else {}
        return spec

    def _secrets_of(self, volume: str) -> set[tuple[str, str]]:
        """The secrets that a volume's driver needs on the node."""
        source = self._spec(VOLUMES, "", "", volume).get("csi") or {}
        refs = (source.get(f"node{use}SecretRef") for use in ("Publish", "Stage", "Expand"))
        return {(str(ref.get("namespace", "")), str(ref.get("name", ""))) for ref in refs if ref}


def _named(pod: _Pod) -> Iterator[Thing]:
    """The pod itself, and all it names. A mirror pod, which a kubelet makes, names nothing."""
    namespace, spec = pod.metadata.namespace, pod.spec
    yield "pods", namespace, pod.metadata.name
    if _MIRROR in (pod.metadata.annotations or {}):
        return
    for resource, name, _ in _references(spec, pod.metadata.name):
        if name:
            yield resource, namespace, name
    for status in pod.status.resource_claim_statuses or ():
        yield "resourceclaims", namespace, status.get("resourceClaimName") or ""


def names_objects(spec: Document) -> str:
    """One resource that a pod names objects of; "" where it stands on its own."""
    return next((resource for resource, name, _ in _references(spec, "") if name), "")


def names_secrets(spec: Document) -> Iterator[tuple[str, str]]:
    """The secrets that a pod names: the words for where, and the name."""
    for resource, name, where in _references(spec, ""):
        if resource == SECRETS and name:
            yield _told(name, where), name


Where = tuple[str, ...]  # a field; or the kind of a container, its name and, of one variable, the variable's


def _told(secret: str, where: Where) -> str:
    """Where a pod names a secret, in upstream's words."""
    if len(where) == 1:
        return where[0] if where[0] == "imagePullSecrets" else f'volume with secret.secretName="{secret}"'
    kind, container, *variable = where
    source = f"envVar {variable[0]}" if variable else "envFrom"
    return f'{kind} {container} with {source} referencing secret.secretName="{secret}"'


def _references(spec: Document, pod: str) -> Iterator[tuple[str, str, Where]]:
    """Everything that a pod named `pod` names in its namespace: resource, name (or ""), and where."""
    yield ACCOUNTS, spec.get("serviceAccountName") or "", ("serviceAccountName",)
    for ref in spec.get("imagePullSecrets") or ():
        yield SECRETS, ref.get("name", ""), ("imagePullSecrets",)
    for group, words in _CONTAINERS:
        for container in spec.get(group) or ():
            yield from _of_container(container, (words, container.get("name", "")))
    for volume in spec.get("volumes") or ():
        for resource, name in _of_volume(volume, pod):
            yield resource, name, ("volumes",)
    for claim in spec.get("resourceClaims") or ():
        yield "resourceclaims", claim.get("resourceClaimName") or "", ("resourceClaims",)


_CONTAINERS = (
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
)


def _of_container(container: Document, where: Where) -> Iterator[tuple[str, str, Where]]:
    for source in container.get("envFrom") or ():
        yield CONFIG_MAPS, (source.get("configMapRef") or {}).get("name", ""), where
        yield SECRETS, (source.get("secretRef") or {}).get("name", ""), where
    for variable in container.get("env") or ():
        if source := variable.get("valueFrom"):
            here = (*where, variable.get("name", ""))
            yield CONFIG_MAPS, (source.get("configMapKeyRef") or {}).get("name", ""), here
            yield SECRETS, (source.get("secretKeyRef") or {}).get("name", ""), here


_DRIVERS = frozenset({"rbd", "cephfs", "flexVolume", "scaleIO", "iscsi", "storageos"})


def _of_volume(volume: Document, pod: str) -> Iterator[tuple[str, str]]:
    """A volume has one source; a projected one has several."""
    for source, about in volume.items():
        if not isinstance(about, dict):
            continue
        if source == "projected":
            for part in about.get("sources") or ():
                yield CONFIG_MAPS, (part.get("configMap") or {}).get("name", "")
                yield SECRETS, (part.get("secret") or {}).get("name", "")
        elif source == "configMap":
            yield CONFIG_MAPS, about.get("name", "")
        elif source in {"secret", "azureFile"}:
            yield SECRETS, about.get("secretName", "")
        elif source == "persistentVolumeClaim":
            yield CLAIMS, about.get("claimName", "")
        elif source == "ephemeral":
            yield CLAIMS, f"{pod}-{volume.get('name', '')}"
        elif source in _DRIVERS:
            yield SECRETS, (about.get("secretRef") or {}).get("name", "")
        elif source == "csi":
            yield SECRETS, (about.get("nodePublishSecretRef") or {}).get("name", "")
