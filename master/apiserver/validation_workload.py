"""Rules of workloads: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob. Pure."""

from __future__ import annotations

from typing import Any

from labctl.kube.selectors import from_label_selector, matches
from master.apiserver.metadata import label_errors
from master.apiserver.problems import FieldError, forbidden_field, invalid, required, unsupported
from master.apiserver.validation_pod import pod_spec

Document = dict[str, Any]

_PERCENT_RULE = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for"
    " validation is '[0-9]+%')"
)


def _whole(spec: Document, field: str, path: str = "spec") -> list[FieldError]:
    value = spec.get(field)
    if isinstance(value, int) and value < 0:
        return [invalid(f"{path}.{field}", value, "must be greater than or equal to 0")]
    return []


def _selected_template(document: Document, policies: tuple[str, ...] = ("Always",)) -> list[FieldError]:
    """The selector is there, not empty and matches the template's labels."""
    spec = document.get("spec") or {}
    found: list[FieldError] = []
    selector = spec.get("selector")
    template = spec.get("template")
    if selector is None:
        found.append(required("spec.selector"))
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        found.append(invalid("spec.selector", {}, "empty selector is invalid for deployment"))
    if not isinstance(template, dict) or not template.get("spec"):
        return [*found, required("spec.template.spec.containers")]
    labels = (template.get("metadata") or {}).get("labels") or {}
    found += label_errors(labels, "spec.template.labels")
    parsed = _selector(selector)
    if parsed and not matches(parsed, labels):
        found.append(invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
    found += pod_spec(template["spec"], "spec.template.spec")
    policy = template["spec"].get("restartPolicy", "Always")
    if policy not in policies:
        found.append(unsupported("spec.template.spec.restartPolicy", policy, policies))
    return found


def _selector(selector: Document | None) -> Any:
    try:
        return from_label_selector(selector)
    except (KeyError, TypeError):
        return None


def workload(document: Document) -> list[FieldError]:
    """Rules that workloads with replicas and a selector share."""
    spec = document.get("spec") or {}
    found = [*_whole(spec, "replicas"), *_whole(spec, "minReadySeconds"), *_whole(spec, "revisionHistoryLimit")]
    return found + _selected_template(document)


def deployment(document: Document) -> list[FieldError]:
    """Rules of an apps/v1 Deployment."""
    spec = document.get("spec") or {}
    strategy = spec.get("strategy") or {}
    found = workload(document)
    kind = strategy.get("type")
    if kind not in {"RollingUpdate", "Recreate"}:
        found.append(unsupported("spec.strategy.type", kind, ("Recreate", "RollingUpdate")))
    rolling = strategy.get("rollingUpdate")
    if kind == "Recreate" and rolling:
        found.append(
            forbidden_field("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
        )
    if rolling:
        both = [rolling.get("maxUnavailable"), rolling.get("maxSurge")]
        for name, value in zip(("maxUnavailable", "maxSurge"), both, strict=True):
            found += _int_or_percent(value, f"spec.strategy.rollingUpdate.{name}")
        if all(value in (0, "0%") for value in both):
            found.append(
                invalid("spec.strategy.rollingUpdate.maxUnavailable", both[0], "may not be 0 when `maxSurge` is 0")
            )
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds") or 0
    if isinstance(deadline, int) and deadline <= ready:
        found.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return found


def _int_or_percent(value: Any, field: str) -> list[FieldError]:
    if isinstance(value, int) and value < 0:
        return [invalid(field, value, "must be greater than or equal to 0")]
    if isinstance(value, str) and not (value.endswith("%") and value[:-1].isdigit()):
        return [
            invalid(
                field,
                value,
                _PERCENT_RULE,
            )
        ]
    return []


def job(document: Document) -> list[FieldError]:
    """Rules of a batch/v1 Job."""
    spec = document.get("spec") or {}
    found: list[FieldError] = []
    for name in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        found += _whole(spec, name)
    template = spec.get("template") or {}
    if not template.get("spec"):
        return [*found, required("spec.template.spec.containers")]
    found += pod_spec(template["spec"], "spec.template.spec")
    given = template["spec"].get("restartPolicy", "Always")
    if given not in {"OnFailure", "Never"}:
        detail = unsupported("spec.template.spec.restartPolicy", given, ("Never", "OnFailure")).message
        found.append(FieldError("FieldValueNotSupported", "spec.template.spec.restartPolicy", detail))
    return found


def cron_job(document: Document) -> list[FieldError]:
    """Rules of a batch/v1 CronJob."""
    spec = document.get("spec") or {}
    found = [] if spec.get("schedule") else [required("spec.schedule")]
    if spec.get("concurrencyPolicy") not in {"Allow", "Forbid", "Replace"}:
        found.append(
            unsupported("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
        )
    return found


def stateful_set_changes(new: Document, old: Document) -> list[FieldError]:
    """What may change of an apps/v1 StatefulSet."""
    changeable = {
        "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
    }  # fmt: skip
    after = {key: value for key, value in (new.get("spec") or {}).items() if key not in changeable}
    before = {key: value for key, value in (old.get("spec") or {}).items() if key not in changeable}
    if after == before:
        return []
    names = (
        "'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit',"
        " 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds'"
    )
    return [forbidden_field("spec", f"updates to statefulset spec for fields other than {names} are forbidden")]
