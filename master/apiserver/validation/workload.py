"""Rules of Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController, ControllerRevision. Pure.

Source: `pkg/apis/apps/validation/validation.go`.
"""

from __future__ import annotations

from labctl.kube.selectors import matches
from master.apiserver import names
from master.apiserver.problems import forbidden_field, invalid, required, unsupported
from master.apiserver.validation.pod import template
from master.apiserver.validation.storage import claim_spec
from master.apiserver.validation.values import (
    Document,
    Found,
    at_most_all,
    formed,
    int_or_percent,
    is_empty_selector,
    percentage,
    selector,
    unchanged,
    whole,
)

_CLAIM_POLICIES = ("Retain", "Delete")
_ORDERS = ("OrderedReady", "Parallel")


def deployment(document: Document, found: Found) -> None:
    """apps/v1 Deployment."""
    spec = document.get("spec") or {}
    whole(spec, "spec", "replicas", found=found)
    _selected(spec, "deployment", "ReplicaSet", found)
    _strategy(spec.get("strategy") or {}, found)
    whole(spec, "spec", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds", found=found)
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds", 0)
    if isinstance(deadline, int) and deadline <= ready:
        found.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))


def _strategy(given: Document, found: Found) -> None:
    kind, rolling, path = given.get("type"), given.get("rollingUpdate"), "spec.strategy.rollingUpdate"
    if kind == "Recreate":
        if rolling is not None:
            found.append(forbidden_field(path, "may not be specified when strategy `type` is 'Recreate'"))
    elif kind != "RollingUpdate":
        shown = {"Type": kind or "", "RollingUpdate": rolling}  # as upstream's internal type prints
        found.append(unsupported("spec.strategy", shown, ("Recreate", "RollingUpdate")))
    elif rolling is None:
        found.append(required(path, "this should be defaulted and never be nil"))
    else:
        down, up = rolling.get("maxUnavailable"), rolling.get("maxSurge")
        int_or_percent(down, f"{path}.maxUnavailable", found)
        int_or_percent(up, f"{path}.maxSurge", found)
        if not percentage(down) and not percentage(up):
            found.append(invalid(f"{path}.maxUnavailable", down, "may not be 0 when `maxSurge` is 0"))
        at_most_all(down, f"{path}.maxUnavailable", found)


def replica_set(document: Document, found: Found) -> None:
    """apps/v1 ReplicaSet; upstream's words speak of deployments here too."""
    spec = document.get("spec") or {}
    whole(spec, "spec", "replicas", "minReadySeconds", found=found)
    _selected(spec, "deployment", "ReplicaSet", found)


def replication_controller(document: Document, found: Found) -> None:
    """core/v1 ReplicationController: its selector is a plain map."""
    spec = document.get("spec") or {}
    whole(spec, "spec", "minReadySeconds", "replicas", found=found)
    wanted, labels = spec.get("selector") or {}, _labels(spec)
    if not wanted:
        found.append(required("spec.selector"))
    if "template" not in spec:
        found.append(required("spec.template"))
        return
    if any(labels.get(key) != value for key, value in wanted.items()):
        found.append(invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
    template(spec["template"], "spec.template", found)
    _always(spec, "ReplicationController", found)


def _selected(spec: Document, word: str, kind: str, found: Found) -> None:
    """A selector that is there, selects something, and selects the template."""
    given = spec.get("selector")
    parsed = selector(given, "spec.selector", found)
    if given is None:
        found.append(required("spec.selector"))
    elif is_empty_selector(given):
        found.append(invalid("spec.selector", {}, f"empty selector is invalid for {word}"))
    elif parsed is not None and not matches(parsed, _labels(spec)):
        told = "`selector` does not match template `labels`"
        found.append(invalid("spec.template.metadata.labels", _shown_labels(spec), told))
    template(spec.get("template"), "spec.template", found)
    _always(spec, kind, found)


def _labels(spec: Document) -> Document:
    return ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}


def _shown_labels(spec: Document) -> Document | None:
    return _labels(spec) or None


def _always(spec: Document, kind: str, found: Found) -> None:
    inner = (spec.get("template") or {}).get("spec") or {}
    if inner.get("restartPolicy", "Always") != "Always":
        found.append(unsupported("spec.template.spec.restartPolicy", inner["restartPolicy"], ("Always",)))
    if "activeDeadlineSeconds" in inner:
        told = f"activeDeadlineSeconds in {kind} is not Supported"
        found.append(forbidden_field("spec.template.spec.activeDeadlineSeconds", told))


def daemon_set(document: Document, found: Found) -> None:
    """apps/v1 DaemonSet."""
    spec = document.get("spec") or {}
    if spec.get("selector") is None:
        found.append(
            invalid("spec.template.metadata.labels", _shown_labels(spec), "`selector` does not match template `labels`")
        )
        template(spec.get("template"), "spec.template", found)
        _always(spec, "DaemonSet", found)
    else:
        _selected(spec, "daemonset", "DaemonSet", found)
    whole(spec, "spec", "minReadySeconds", "revisionHistoryLimit", found=found)
    given, path = spec.get("updateStrategy") or {}, "spec.updateStrategy"
    kind, rolling = given.get("type"), given.get("rollingUpdate")
    if kind == "RollingUpdate":
        if rolling is None:
            found.append(required(f"{path}.rollingUpdate"))
        else:
            _rolling_daemons(rolling, f"{path}.rollingUpdate", found)
    elif kind != "OnDelete":
        shown = {"Type": kind or "", "RollingUpdate": rolling}
        found.append(unsupported(path, shown, ("RollingUpdate", "OnDelete")))


def _rolling_daemons(rolling: Document, path: str, found: Found) -> None:
    down, up = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    for key, value in (("maxUnavailable", down), ("maxSurge", up)):
        int_or_percent(value, f"{path}.{key}", found)
    for key, value in (("maxUnavailable", down), ("maxSurge", up)):
        at_most_all(value, f"{path}.{key}", found)
    if percentage(down) and percentage(up):
        found.append(invalid(f"{path}.maxSurge", up, "may not be set when maxUnavailable is non-zero"))
    elif not percentage(down) and not percentage(up):
        found.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))


def stateful_set(document: Document, found: Found) -> None:
    """apps/v1 StatefulSet."""
    spec = document.get("spec") or {}
    order = spec.get("podManagementPolicy", "")
    if not order:
        found.append(required("spec.podManagementPolicy"))
    elif order not in _ORDERS:
        found.append(invalid("spec.podManagementPolicy", order, "must be 'OrderedReady' or 'Parallel'"))
    _stateful_strategy(spec.get("updateStrategy") or {}, found)
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for key in ("whenDeleted", "whenScaled"):
        if retention.get(key, "Retain") not in _CLAIM_POLICIES:
            path = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
            found.append(unsupported(path, retention[key], _CLAIM_POLICIES))
    for at, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{at}].spec", found)
    whole(spec, "spec", "replicas", "minReadySeconds", found=found)
    whole(spec.get("ordinals") or {}, "spec.ordinals", "start", found=found)
    if service := spec.get("serviceName"):
        formed(service, "spec.serviceName", names.label, found)
    _selected(_with_claims(spec), "statefulset", "StatefulSet", found)


def _stateful_strategy(given: Document, found: Found) -> None:
    kind, rolling, path = given.get("type"), given.get("rollingUpdate"), "spec.updateStrategy"
    if not kind:
        found.append(required(path))
    elif kind == "OnDelete":
        if rolling is not None:
            told = "only allowed for updateStrategy 'RollingUpdate'"
            found.append(invalid(f"{path}.rollingUpdate", rolling, told))
    elif kind != "RollingUpdate":
        found.append(invalid(path, given, "must be 'RollingUpdate' or 'OnDelete'"))
    elif rolling:
        whole(rolling, f"{path}.rollingUpdate", "partition", found=found)
        down, field = rolling.get("maxUnavailable"), f"{path}.rollingUpdate.maxUnavailable"
        if down is not None:
            int_or_percent(down, field, found)
            if not percentage(down):
                found.append(invalid(field, down, "cannot be 0"))
            at_most_all(down, field, found)


def _with_claims(spec: Document) -> Document:
    """The spec as its pods will be: claims are volumes; hostname and subdomain come from the controller."""
    claims = [(claim.get("metadata") or {}).get("name", "") for claim in spec.get("volumeClaimTemplates") or ()]
    whole_template = spec.get("template") or {}
    inner = dict(whole_template.get("spec") or {})
    if not claims and "hostname" not in inner and "subdomain" not in inner:
        return spec
    for key in ("hostname", "subdomain"):
        inner.pop(key, None)
    own = [volume for volume in inner.get("volumes") or () if volume.get("name") not in claims]
    inner["volumes"] = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims] + own
    return {**spec, "template": {**whole_template, "spec": inner}}


def stateful_set_changes(new: Document, old: Document, found: Found) -> None:
    """What stays of a StatefulSet."""
    paths = ("spec.selector", "spec.volumeClaimTemplates", "spec.serviceName", "spec.podManagementPolicy")
    unchanged(new, old, paths, found)


def controller_revision(document: Document, found: Found) -> None:
    """apps/v1 ControllerRevision."""
    whole(document, "", "revision", found=found)
    if document.get("data") is None:
        found.append(required("data", "data is mandatory"))


def pod_template(document: Document, found: Found) -> None:
    """core/v1 PodTemplate."""
    template(document.get("template"), "template", found)


def same_selector(new: Document, old: Document, found: Found) -> None:
    """A workload keeps its selector."""
    unchanged(new, old, ("spec.selector",), found)


def same_data(new: Document, old: Document, found: Found) -> None:
    """A revision keeps what it recorded."""
    unchanged(new, old, ("data",), found)
