"""Rules of Job and CronJob. Pure. Source: `pkg/apis/batch/validation/validation.go`."""

from __future__ import annotations

import copy
import re
from typing import Any

from labctl.kube.selectors import matches
from master.apiserver import names
from master.apiserver.problems import duplicate, invalid, required, too_long, unsupported
from master.apiserver.validation.pod import template
from master.apiserver.validation.values import (
    IMMUTABLE,
    Document,
    Found,
    at,
    choice,
    formed,
    prefixed_path,
    selector,
    unchanged,
    whole,
)

_MODES = ("NonIndexed", "Indexed")
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATES = ("False", "True", "Unknown")
_MACROS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, _MONTHS), (0, 6, _DAYS),
)  # fmt: skip
_ZONE = re.compile(r"[A-Za-z\.\-_0-9+]{1,14}")


def job(document: Document, found: Found) -> None:
    """batch/v1 Job."""
    spec, metadata = document.get("spec") or {}, document["metadata"]
    _indexed_name(spec, metadata.get("name", ""), found)
    job_spec(spec, "spec", found)
    given = spec.get("selector")
    if given is None:
        found.append(required("spec.selector"))
        return
    parsed = selector(given, "spec.selector", found)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if parsed is not None and not matches(parsed, labels):
        told = "`selector` does not match template `labels`"
        found.append(invalid("spec.template.metadata.labels", labels, told))
    if not spec.get("manualSelector"):
        wanted = {"batch.kubernetes.io/controller-uid": metadata.get("uid"), "controller-uid": metadata.get("uid"),
                  "batch.kubernetes.io/job-name": metadata.get("name"), "job-name": metadata.get("name")}  # fmt: skip
        if parsed is not None and not matches(parsed, wanted):
            found.append(invalid("spec.selector", given, "`selector` not auto-generated"))


def _indexed_name(spec: Document, name: str, found: Found) -> None:
    if spec.get("completionMode") == "Indexed" and spec.get("completions", 0) > 0:
        longest = f"{name}-{spec['completions'] - 1}"
        if names.label(longest):
            told = f"will not able to create pod with invalid DNS label: {longest}"
            found.append(invalid("metadata.name", name, told))


def job_spec(spec: Document, path: str, found: Found) -> None:
    """The spec of a Job, or of a CronJob's template, without its selector."""
    whole(
        spec, path, "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
        "backoffLimitPerIndex", "maxFailedIndexes", found=found,
    )  # fmt: skip
    if "maxFailedIndexes" in spec and "backoffLimitPerIndex" not in spec:
        found.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if "managedBy" in spec:
        prefixed_path(spec["managedBy"], f"{path}.managedBy", found)
        if len(spec["managedBy"]) > 63:
            found.append(too_long(f"{path}.managedBy", 63))
    _mode(spec, path, found)
    if policy := spec.get("podFailurePolicy"):
        _failure_policy(spec, policy, f"{path}.podFailurePolicy", found)
    replacement = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if spec.get("podFailurePolicy") else ("Failed", "TerminatingOrFailed")
    if replacement is not None and replacement not in allowed:
        found.append(unsupported(f"{path}.podReplacementPolicy", replacement, allowed))
    template(spec.get("template"), f"{path}.template", found)
    _restart(spec, f"{path}.template.spec.restartPolicy", found)


def _restart(spec: Document, field: str, found: Found) -> None:
    restart = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy", "")
    if restart in {"", "Always"}:
        found.append(required(field, 'valid values: "OnFailure", "Never"'))
    elif restart not in {"OnFailure", "Never"}:
        found.append(unsupported(field, restart, ("OnFailure", "Never")))
    elif spec.get("podFailurePolicy") and restart != "Never":
        found.append(invalid(field, restart, 'only "Never" is supported when podFailurePolicy is specified'))


def _mode(spec: Document, path: str, found: Found) -> None:
    mode = spec.get("completionMode", "NonIndexed")
    if mode not in _MODES:
        found.append(unsupported(f"{path}.completionMode", mode, _MODES))
    if mode == "Indexed":
        completions, failed = spec.get("completions"), spec.get("maxFailedIndexes", 0)
        if completions is None:
            found.append(required(f"{path}.completions", "when completion mode is Indexed"))
        elif failed > completions:
            found.append(invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions"))
        if spec.get("parallelism", 0) > 100_000:
            told = "must be less than or equal to 100000 when completion mode is Indexed"
            found.append(invalid(f"{path}.parallelism", spec["parallelism"], told))
        return
    for key in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
        if key in spec:
            found.append(invalid(f"{path}.{key}", spec[key], "requires indexed completion mode"))


def _failure_policy(spec: Document, policy: Document, path: str, found: Found) -> None:
    inner = (spec.get("template") or {}).get("spec") or {}
    known = {entry.get("name") for key in ("containers", "initContainers") for entry in inner.get(key) or ()}
    for which, rule in enumerate(policy.get("rules") or ()):
        place, action = f"{path}.rules[{which}]", rule.get("action", "")
        if not action:
            found.append(required(f"{place}.action", 'valid values: ["Count" "FailIndex" "FailJob" "Ignore"]'))
        elif action not in _ACTIONS:
            found.append(unsupported(f"{place}.action", action, _ACTIONS))
        elif action == "FailIndex" and "backoffLimitPerIndex" not in spec:
            found.append(invalid(f"{place}.action", action, "requires the backoffLimitPerIndex to be set"))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None:
            _exit_codes(codes, f"{place}.onExitCodes", known, found)
        for at_, pattern in enumerate(conditions or ()):
            field = f"{place}.onPodConditions[{at_}]"
            formed(pattern.get("type", ""), f"{field}.type", names.key, found)
            choice(pattern.get("status"), f"{field}.status", _STATES, found)
        if (codes is None) != bool(conditions):
            word = "both" if codes is not None else "one of"
            end = "is not supported" if codes is not None else "is required"
            told = f"specifying {word} OnExitCodes and OnPodConditions {end}"
            found.append(type(required(place))("FieldValueInvalid", place, f"Invalid value: {told}"))


def _exit_codes(codes: Document, path: str, known: set[Any], found: Found) -> None:
    operator, values = codes.get("operator", ""), codes.get("values") or []
    if not operator:
        found.append(required(f"{path}.operator", 'valid values: ["In" "NotIn"]'))
    elif operator not in _OPERATORS:
        found.append(unsupported(f"{path}.operator", operator, _OPERATORS))
    name = codes.get("containerName")
    if name is not None and name not in known:
        told = "must be one of the container or initContainer names in the pod template"
        found.append(invalid(f"{path}.containerName", name, told))
    if not values:
        found.append(invalid(f"{path}.values", values, "at least one value is required"))
    for which, value in enumerate(values):
        if operator == "In" and value == 0:
            found.append(invalid(f"{path}.values[{which}]", value, "must not be 0 for the In operator"))
        if value in values[:which]:
            found.append(duplicate(f"{path}.values[{which}]", value))
    if values != sorted(values):
        found.append(invalid(f"{path}.values", values, "must be ordered"))


def job_changes(new: Document, old: Document, found: Found) -> None:
    """What stays of a Job; a suspended one that has not started may be scheduled otherwise."""
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    if spec.get("completionMode") != "Indexed":
        unchanged(new, old, ("spec.completions",), found)
    elif spec.get("completions") not in (None, was.get("completions"), spec.get("parallelism")):
        told = "can only be modified in tandem with spec.parallelism"
        found.append(invalid("spec.completions", spec["completions"], told))
    unchanged(new, old, ("spec.selector",), found)
    after, before = spec.get("template") or {}, was.get("template") or {}
    if after != before:
        waits = bool(was.get("suspend")) and not at(old, "status.startTime")
        if not waits or _fixed(after) != _fixed(before):
            found.append(invalid("spec.template", after, IMMUTABLE))
    fixed = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
    unchanged(new, old, tuple(f"spec.{key}" for key in fixed), found)


def _fixed(given: Document) -> Document:
    """A template without what may change while its Job is suspended."""
    kept = copy.deepcopy(given)
    for key in ("labels", "annotations"):
        (kept.get("metadata") or {}).pop(key, None)
    spec = kept.get("spec") or {}
    (spec.get("affinity") or {}).pop("nodeAffinity", None)
    if not spec.get("affinity"):
        spec.pop("affinity", None)
    for key in ("nodeSelector", "tolerations", "schedulingGates"):
        spec.pop(key, None)
    for key in ("containers", "initContainers"):
        for container in spec.get(key) or ():
            container.pop("resources", None)
    return kept


def created_cron_job(document: Document, found: Found) -> None:
    """A new CronJob: its Jobs' names end in a time stamp."""
    cron_job(document, found)
    name = document["metadata"].get("name", "")
    if len(name) > 52:
        found.append(invalid("metadata.name", name, "must be no more than 52 characters"))


def cron_job(document: Document, found: Found) -> None:
    """batch/v1 CronJob."""
    spec = document.get("spec") or {}
    schedule = spec.get("schedule", "")
    if not schedule:
        found.append(required("spec.schedule"))
    else:
        _schedule(schedule, found)
    whole(spec, "spec", "startingDeadlineSeconds", found=found)
    if "timeZone" in spec:
        _zone(spec["timeZone"], found)
    choice(spec.get("concurrencyPolicy"), "spec.concurrencyPolicy", ("Allow", "Forbid", "Replace"), found)
    whole(spec, "spec", "successfulJobsHistoryLimit", "failedJobsHistoryLimit", found=found)
    inner = (spec.get("jobTemplate") or {}).get("spec") or {}
    job_spec(inner, "spec.jobTemplate.spec", found)
    if "selector" in inner:
        told = "`selector` will be auto-generated"
        found.append(invalid("spec.jobTemplate.spec.selector", inner["selector"], told))
    if inner.get("manualSelector"):
        found.append(unsupported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false")))


def _zone(zone: str, found: Found) -> None:
    if not zone:
        found.append(invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string"))
    elif any(part in {".", ".."} or part[:1] == "-" or not _ZONE.fullmatch(part) for part in zone.split("/")):
        found.append(invalid("spec.timeZone", zone, f"unknown time zone {zone}"))
    elif zone.lower() == "local":
        told = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        found.append(invalid("spec.timeZone", zone, told))


def _schedule(text: str, found: Found) -> None:
    if "TZ" in text:
        told = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        found.append(invalid("spec.schedule", text, told))
    elif wrong := _unread(text):
        found.append(invalid("spec.schedule", text, wrong))


def _unread(text: str) -> str:
    """Why a schedule cannot be read; "" where it can."""
    if text.startswith("@"):
        known = text in _MACROS or re.fullmatch(r"@every ([0-9.]+(ns|us|µs|ms|s|m|h))+", text)
        return "" if known else f"unrecognized descriptor: {text}"
    parts = text.split()
    if len(parts) != len(_FIELDS):
        return f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]"
    for part, (low, high, words) in zip(parts, _FIELDS, strict=True):
        for piece in part.split(","):
            if wrong := _piece(piece, low, high, words):
                return wrong
    return ""


def _piece(piece: str, low: int, high: int, words: tuple[str, ...]) -> str:
    span, slash, step = piece.partition("/")
    if slash and not step.isdigit():
        return f"failed to parse int from {step}: strconv.Atoi: parsing {step!r}: invalid syntax".replace("'", '"')
    if slash and int(step) == 0:
        return f"step of range should be a positive number: {piece}"
    if span in {"*", "?"}:
        return ""
    ends = [_number(end, low, words) for end in span.split("-", 1)]
    for end, given in zip(ends, span.split("-", 1), strict=True):
        if end is None:
            return f'failed to parse int from {given}: strconv.Atoi: parsing "{given}": invalid syntax'
    first, last = ends[0] or 0, ends[-1] or 0
    if first < low:
        return f"beginning of range ({first}) below minimum ({low}): {piece}"
    if last > high:
        return f"end of range ({last}) above maximum ({high}): {piece}"
    return f"beginning of range ({first}) beyond end of range ({last}): {piece}" if first > last else ""


def _number(text: str, low: int, words: tuple[str, ...]) -> int | None:
    if text.lower() in words:
        return words.index(text.lower()) + low
    return int(text) if text.isdigit() else None
