"""LimitRanger: what a namespace's LimitRanges add to a pod's containers, and what they refuse.

Source: `plugin/pkg/admission/limitranger/admission.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from labctl.kube.quantity import parse
from labctl.kube.quota import pod_totals
from labctl.kube.resources import builtin
from master.apiserver import problems
from master.apiserver.admit import Attributes, World

Document = dict[str, Any]

_LIMIT_RANGES = builtin("limitranges")
_ANNOTATION = "kubernetes.io/limit-ranger"


class _LimitRanger:
    name = "LimitRanger"
    order = 60
    operations = frozenset({"create", "update"})
    resources = frozenset({"pods", "persistentvolumeclaims"})

    def admit(self, write: Attributes, world: World) -> None:
        assert write.document is not None
        pods = write.kind.resource.plural == "pods"
        if write.subresource not in {"", "resize"} or (pods and write.operation == "update" and not write.subresource):
            return
        limits = _limits(write.namespace, world)
        if not limits:
            return
        document = write.document
        if pods:
            _fill(document, limits)
            wrong = _judge_pod(document.get("spec") or {}, limits)
        else:
            wrong = _judge_claim(document.get("spec") or {}, limits)
        if wrong:
            told = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
            raise problems.forbidden(write.kind.resource, write.name, told)


def _limits(namespace: str, world: World) -> list[Document]:
    kind = world.registry.of(_LIMIT_RANGES)
    found, _ = world.storage.cache(kind).list(kind.scope(namespace))
    return [limit for entry in found for limit in (entry.document.get("spec") or {}).get("limits") or ()]


def _fill(pod: Document, limits: list[Document]) -> None:
    """Give each container the default requests and limits that it does not state."""
    defaults: dict[str, Document] = {"limits": {}, "requests": {}}
    for limit in limits:
        if limit.get("type") == "Container":
            defaults["limits"] |= limit.get("default") or {}
            defaults["requests"] |= limit.get("defaultRequest") or {}
    told: list[str] = []
    spec = pod.get("spec") or {}
    for field, word in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(field) or ():
            resources = container.setdefault("resources", {})
            for key, noun in (("requests", "request"), ("limits", "limit")):
                given = resources.get(key) or {}
                added = sorted(set(defaults[key]) - set(given))
                if added:
                    resources[key] = {**given, **{name: defaults[key][name] for name in added}}
                    told.append(f"{', '.join(added)} {noun} for {word} {container.get('name', '')}")
    if told:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[_ANNOTATION] = f"LimitRanger plugin set: {'; '.join(told)}"


def _judge_pod(spec: Document, limits: list[Document]) -> list[str]:
    wrong: list[str] = []
    for limit in limits:
        if limit.get("type") == "Container":
            for field in ("containers", "initContainers"):
                for container in spec.get(field) or ():
                    resources = container.get("resources") or {}
                    wrong += _judge(limit, resources.get("requests") or {}, resources.get("limits") or {})
        elif limit.get("type") == "Pod":
            wrong += _judge(limit, pod_totals(spec, "requests"), pod_totals(spec, "limits"))
    return wrong


def _judge_claim(spec: Document, limits: list[Document]) -> list[str]:
    requests = (spec.get("resources") or {}).get("requests") or {}
    wrong: list[str] = []
    for limit in limits:
        if limit.get("type") == "PersistentVolumeClaim":
            wrong += _each(limit, "min", lambda name, bound: _minimum(name, bound, requests, {}))
            wrong += _each(limit, "max", lambda name, bound: _most_requested(name, bound, requests))
    return [text.format(kind="PersistentVolumeClaim") for text in wrong]


def _judge(limit: Document, requests: Document, limits: Document) -> list[str]:
    found = [
        *_each(limit, "min", lambda name, bound: _minimum(name, bound, requests, limits)),
        *_each(limit, "max", lambda name, bound: _maximum(name, bound, requests, limits)),
        *_each(limit, "maxLimitRequestRatio", lambda name, bound: _ratio(name, bound, requests, limits)),
    ]
    return [text.format(kind=limit["type"]) for text in found]


def _each(limit: Document, key: str, check: Callable[[str, str], str]) -> Iterable[str]:
    return [text for name, bound in (limit.get(key) or {}).items() if (text := check(name, bound))]


def _minimum(name: str, bound: str, requests: Document, limits: Document) -> str:
    start = f"minimum {name} usage per {{kind}} is {bound}"
    if name not in requests:
        return f"{start}.  No request is specified"
    if parse(requests[name]) < parse(bound):
        return f"{start}, but request is {requests[name]}"
    if name in limits and parse(limits[name]) < parse(bound):
        return f"{start}, but limit is {limits[name]}"
    return ""


def _most_requested(name: str, bound: str, requests: Document) -> str:
    start = f"maximum {name} usage per {{kind}} is {bound}"
    if name not in requests:
        return f"{start}.  No request is specified"
    return f"{start}, but request is {requests[name]}" if parse(requests[name]) > parse(bound) else ""


def _maximum(name: str, bound: str, requests: Document, limits: Document) -> str:
    start = f"maximum {name} usage per {{kind}} is {bound}"
    if name not in limits:
        return f"{start}.  No limit is specified"
    if parse(limits[name]) > parse(bound):
        return f"{start}, but limit is {limits[name]}"
    if name in requests and parse(requests[name]) > parse(bound):
        return f"{start}, but request is {requests[name]}"
    return ""


def _ratio(name: str, bound: str, requests: Document, limits: Document) -> str:
    start = f"{name} max limit to request ratio per {{kind}} is {bound}"
    if not parse(requests.get(name, 0)):
        return f"{start}, but no request is specified or request is 0"
    if not parse(limits.get(name, 0)):
        return f"{start}, but no limit is specified or limit is 0"
    ratio = parse(limits[name]) / parse(requests[name])
    return f"{start}, but provided ratio is {float(ratio):f}" if ratio > parse(bound) else ""


ADMISSION = _LimitRanger()
