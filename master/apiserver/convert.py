"""Versions that share stored objects: events.k8s.io/v1 over core/v1 Events, autoscaling/v1 over v2.

Sources: `pkg/apis/events/v1/conversion.go`, `pkg/apis/autoscaling/v1/conversion.go`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversion:
    """Between the served version and the stored one."""

    to_stored: Callable[[Document], Document]
    from_stored: Callable[[Document], Document]


_EVENT_FIELDS = (  # (events.k8s.io/v1, core/v1)
    ("note", "message"), ("regarding", "involvedObject"), ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"), ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"), ("reportingController", "reportingComponent"),
)  # fmt: skip


def _renamed(document: Document, names: dict[str, str], api_version: str) -> Document:
    return {names.get(key, key): value for key, value in document.items()} | {"apiVersion": api_version}


def _event_to_core(document: Document) -> Document:
    return _renamed(document, dict(_EVENT_FIELDS), "v1")


def _event_from_core(document: Document) -> Document:
    return _renamed(document, {core: ours for ours, core in _EVENT_FIELDS}, "events.k8s.io/v1")


EVENTS = Conversion(_event_to_core, _event_from_core)


def _hpa_to_v2(document: Document) -> Document:
    spec = dict(document.get("spec") or {})
    target = spec.pop("targetCPUUtilizationPercentage", None)
    if target is not None:
        resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}
        spec["metrics"] = [{"type": "Resource", "resource": resource}]
    status = dict(document.get("status") or {})
    current = status.pop("currentCPUUtilizationPercentage", None)
    if current is not None:
        figure = {"name": "cpu", "current": {"averageUtilization": current}}
        status["currentMetrics"] = [{"type": "Resource", "resource": figure}]
    return document | {"apiVersion": "autoscaling/v2", "spec": spec, "status": status}


def _hpa_to_v1(document: Document) -> Document:
    spec = dict(document.get("spec") or {})
    for metric in spec.pop("metrics", None) or ():
        target = (metric.get("resource") or {}).get("target") or {}
        if (metric.get("resource") or {}).get("name") == "cpu" and "averageUtilization" in target:
            spec["targetCPUUtilizationPercentage"] = target["averageUtilization"]
    spec.pop("behavior", None)
    status = dict(document.get("status") or {})
    status.pop("conditions", None)
    for metric in status.pop("currentMetrics", None) or ():
        figure = metric.get("resource") or {}
        if figure.get("name") == "cpu" and "averageUtilization" in (figure.get("current") or {}):
            status["currentCPUUtilizationPercentage"] = figure["current"]["averageUtilization"]
    return document | {"apiVersion": "autoscaling/v1", "spec": spec, "status": status}


HPA = Conversion(_hpa_to_v2, _hpa_to_v1)
