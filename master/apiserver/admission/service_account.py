"""ServiceAccount: a pod runs as an account that exists, and finds its token, the cluster's CA and namespace mounted.

Source: k/k `plugin/pkg/admission/serviceaccount/admission.go`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labctl.kube.errors import NotFound
from labctl.kube.resources import SERVICE_ACCOUNTS
from master.apiserver import problems
from master.apiserver.admit import Attributes, World
from master.apiserver.authz.graph import names_secrets
from master.apiserver.metadata import generated_name
from master.apiserver.tokens import PROJECTED_S

Document = dict[str, Any]

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_VOLUME = "kube-api-access"
_DEFAULT = "default"
_MIRROR = "kubernetes.io/config.mirror"
_ENFORCE = "kubernetes.io/enforce-mountable-secrets"
_TRIES, _TRY_S = 10, 0.15  # a namespace's default account comes a moment after the namespace


class _ServiceAccount:
    name = "ServiceAccount"
    order = 25  # before what counts a pod's volumes, or looks at its account
    operations = frozenset({"create", "update"})
    resources = frozenset({"pods"})

    def admit(self, write: Attributes, world: World) -> None:
        pod = write.document
        assert pod is not None
        if write.operation == "update":
            if write.subresource == "ephemeralcontainers":
                _limit(write, _account(write, world, pod["spec"].get("serviceAccountName") or _DEFAULT))
            return
        if write.subresource:
            return
        spec = pod["spec"]
        if _MIRROR in (pod["metadata"].get("annotations") or {}):
            _mirror(write, spec)
            return
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = spec["serviceAccount"] = _DEFAULT
        account = _account(write, world, spec["serviceAccountName"])
        if _automount(account, spec):
            _mount(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [{"name": ref.get("name", "")} for ref in account["imagePullSecrets"]]
        _limit(write, account)


def _account(write: Attributes, world: World, name: str) -> Document:
    kind = world.registry.of(SERVICE_ACCOUNTS)
    found = world.storage.cache(kind).get(kind.key(write.namespace, name))
    for attempt in range(_TRIES if name == _DEFAULT else 1):
        if found is None:
            if attempt:
                world.clock.sleep_s(_TRY_S)
            found = world.storage.find(kind, write.namespace, name)
    if found is None:
        missing = NotFound(f'serviceaccount "{name}" not found')
        why = f"error looking up service account {write.namespace}/{name}: {missing.message}"
        raise problems.forbidden(write.kind.resource, write.name, why)
    return found.document


def _automount(account: Document, spec: Document) -> bool:
    """The pod's word, else the account's, else yes."""
    for asked in (spec, account):
        if (wanted := asked.get("automountServiceAccountToken")) is not None:
            return bool(wanted)
    return True


def _mount(spec: Document) -> None:
    """Mount the token into every container that has nothing there yet."""
    volumes = spec.get("volumes") or []
    given = next((one["name"] for one in volumes if str(one.get("name", "")).startswith(f"{_VOLUME}-")), "")
    name = given or generated_name(f"{_VOLUME}-")
    needed = False
    for container in _containers(spec):
        mounts = container.get("volumeMounts") or []
        if not any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
            container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}]
            needed = True
    if needed and not given:
        spec["volumes"] = [*volumes, {"name": name, "projected": _projected()}]


def _containers(spec: Document) -> Iterator[Document]:
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def _projected() -> Document:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": PROJECTED_S, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
    }


def _mirror(write: Attributes, spec: Document) -> None:
    """What a kubelet runs from its own files is no client of the API."""
    why = ""
    if spec.get("serviceAccountName"):
        why = "a mirror pod may not reference service accounts"
    elif any(names_secrets(spec)):
        why = "a mirror pod may not reference secrets"
    elif any(
        "serviceAccountToken" in source
        for volume in spec.get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
    ):
        why = "a mirror pod may not use ServiceAccountToken volume projections"
    if why:
        raise problems.forbidden(write.kind.resource, write.name, why)


def _limit(write: Attributes, account: Document) -> None:
    """Where the account asks for it, a pod may use the secrets that the account names alone."""
    flag = (account["metadata"].get("annotations") or {}).get(_ENFORCE, "")
    if flag.lower() not in {"1", "t", "true"}:
        return
    assert write.document is not None
    spec, owner = write.document["spec"], account["metadata"]["name"]
    known = {ref.get("name") for ref in account.get("secrets") or ()}
    pull = {ref.get("name") for ref in account.get("imagePullSecrets") or ()}
    why = ""
    for where, secret in names_secrets(spec):
        if where != "imagePullSecrets" and secret not in known:
            why = f"{where} is not allowed because service account {owner} does not reference that secret"
            break
    for at, ref in enumerate(spec.get("imagePullSecrets") or ()):
        if not why and ref.get("name") not in pull:
            why = (
                f'imagePullSecrets[{at}].name="{ref.get("name")}" is not allowed because service account {owner}'
                " does not reference that imagePullSecret"
            )
    if why:
        raise problems.forbidden(write.kind.resource, write.name, why)


ADMISSION = _ServiceAccount()
