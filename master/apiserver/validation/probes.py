"""Rules of probes and lifecycle hooks. Pure. Source: `validateProbe`, `validateHandler`, `validateLifecycle`."""

from __future__ import annotations

from typing import Any

from master.apiserver import names
from master.apiserver.problems import forbidden_field, invalid, required, unsupported
from master.apiserver.validation.values import Document, Found, formed, port, port_or_name, whole

_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def probes(container: Document, grace_s: Any, path: str, found: Found) -> None:
    """The three probes of a container."""
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if probe is None:
            continue
        place, own = f"{path}.{name}", probe.get("terminationGracePeriodSeconds")
        _handler(probe, grace_s, place, found)
        whole(probe, place, *_NUMBERS, found=found)
        if isinstance(own, int) and own <= 0:
            found.append(invalid(f"{place}.terminationGracePeriodSeconds", own, "must be greater than 0"))
        if name != "readinessProbe":
            if probe.get("successThreshold", 1) != 1:
                found.append(invalid(f"{place}.successThreshold", probe["successThreshold"], "must be 1"))
        elif own is not None:
            told = "must not be set for readinessProbes"
            found.append(invalid(f"{place}.terminationGracePeriodSeconds", own, told))


def lifecycle(hooks: Document | None, grace_s: Any, path: str, found: Found) -> None:
    """What runs after the start and before the stop."""
    for name in ("postStart", "preStop"):
        if hooks and name in hooks:
            _handler(hooks[name] or {}, grace_s, f"{path}.{name}", found)


def _handler(given: Document, grace_s: Any, path: str, found: Found) -> None:
    kinds = [kind for kind in _HANDLERS if kind in given]
    if not kinds:
        found.append(required(path, "must specify a handler type"))
        return
    for kind in kinds[1:]:
        found.append(forbidden_field(f"{path}.{kind}", "may not specify more than 1 handler type"))
    kind = kinds[0]
    action, place = given[kind] or {}, f"{path}.{kind}"
    if kind == "exec":
        if not action.get("command"):
            found.append(required(f"{place}.command"))
    elif kind == "httpGet":
        _http(action, place, found)
    elif kind == "tcpSocket":
        port_or_name(action.get("port"), f"{place}.port", found)
    elif kind == "grpc":
        port(action.get("port", 0), f"{place}.port", found)
    elif isinstance(grace_s, int) and not 0 <= action.get("seconds", 0) <= grace_s:
        told = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_s})"
        found.append(invalid(place, action.get("seconds", 0), told))


def _http(action: Document, path: str, found: Found) -> None:
    if not action.get("path"):
        found.append(required(f"{path}.path"))
    port_or_name(action.get("port"), f"{path}.port", found)
    if action.get("scheme", "HTTP") not in {"HTTP", "HTTPS"}:
        found.append(unsupported(f"{path}.scheme", action["scheme"], ("HTTP", "HTTPS")))
    for entry in action.get("httpHeaders") or ():
        formed(entry.get("name", ""), f"{path}.httpHeaders", names.header, found)
