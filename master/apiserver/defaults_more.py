"""Upstream's defaults of kinds that few people write: webhooks, CSI drivers, flow control, devices. See `defaults`."""

from __future__ import annotations

from typing import Any

from master.apiserver.defaults_pod import fill

Document = dict[str, Any]

_UP = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_DOWN = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


def _spec(document: Document) -> Document:
    spec: Document = document.setdefault("spec", {})
    return spec


def autoscaler_behavior(spec: Document) -> None:
    """A HorizontalPodAutoscaler that says something of its behaviour says all of it."""
    if (behavior := spec.get("behavior")) is not None:
        for key, rules in (("scaleUp", _UP), ("scaleDown", _DOWN)):
            fill(behavior.setdefault(key, {}), **{name: _copied(value) for name, value in rules.items()})


def _copied(value: Any) -> Any:
    return [dict(entry) for entry in value] if isinstance(value, list) else value


def limit_range(document: Document) -> None:
    """core/v1 LimitRange: a container's default is its maximum, its default request the default, else the minimum."""
    for limit in _spec(document).get("limits") or ():
        if limit.get("type") != "Container":
            continue
        default, request = dict(limit.get("default") or {}), dict(limit.get("defaultRequest") or {})
        fill(default, **(limit.get("max") or {}))
        fill(request, **default)
        fill(request, **(limit.get("min") or {}))
        limit.update({key: value for key, value in (("default", default), ("defaultRequest", request)) if value})


def csi_driver(document: Document) -> None:
    """storage.k8s.io/v1 CSIDriver."""
    fill(
        _spec(document), attachRequired=True, podInfoOnMount=False, storageCapacity=False,
        fsGroupPolicy="ReadWriteOnceWithFSType", requiresRepublish=False, seLinuxMount=False,
    )  # fmt: skip
    if not document["spec"].get("volumeLifecycleModes"):
        document["spec"]["volumeLifecycleModes"] = ["Persistent"]


def flow_schema(document: Document) -> None:
    """flowcontrol.apiserver.k8s.io/v1 FlowSchema."""
    spec = _spec(document)
    spec["matchingPrecedence"] = spec.get("matchingPrecedence") or 1000


def priority_level(document: Document) -> None:
    """flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration."""
    spec = _spec(document)
    if (exempt := spec.get("exempt")) is not None:
        fill(exempt, nominalConcurrencyShares=0, lendablePercent=0)
    if (limited := spec.get("limited")) is not None:
        fill(limited, nominalConcurrencyShares=30, lendablePercent=0)
        if (queuing := (limited.get("limitResponse") or {}).get("queuing")) is not None:
            for key, value in (("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)):
                queuing[key] = queuing.get(key) or value


def ingress_class(document: Document) -> None:
    """networking.k8s.io/v1 IngressClass."""
    if (parameters := _spec(document).get("parameters")) is not None:
        fill(parameters, scope="Cluster")


def webhooks(document: Document) -> None:
    """ValidatingWebhookConfiguration and MutatingWebhookConfiguration."""
    for hook in document.get("webhooks") or ():
        fill(
            hook, failurePolicy="Fail", matchPolicy="Equivalent", namespaceSelector={}, objectSelector={},
            timeoutSeconds=10,
        )  # fmt: skip
        if document.get("kind") == "MutatingWebhookConfiguration":
            fill(hook, reinvocationPolicy="Never")
        if (service := (hook.get("clientConfig") or {}).get("service")) is not None:
            fill(service, port=443)
        for rule in hook.get("rules") or ():
            fill(rule, scope="*")


def admission_policy(document: Document) -> None:
    """ValidatingAdmissionPolicy and MutatingAdmissionPolicy."""
    spec = _spec(document)
    fill(spec, failurePolicy="Fail")
    if (constraints := spec.get("matchConstraints")) is not None:
        match_resources(constraints)


def admission_policy_binding(document: Document) -> None:
    """The bindings of admission policies."""
    if (resources := _spec(document).get("matchResources")) is not None:
        match_resources(resources)


def match_resources(resources: Document) -> None:
    """What an admission policy looks at."""
    fill(resources, matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
    for key in ("resourceRules", "excludeResourceRules"):
        for rule in resources.get(key) or ():
            fill(rule, scope="*")


def api_service(document: Document) -> None:
    """apiregistration.k8s.io/v1 APIService."""
    if (service := _spec(document).get("service")) is not None:
        fill(service, port=443)


def resource_claim(document: Document) -> None:
    """resource.k8s.io/v1 ResourceClaim."""
    _devices(_spec(document))


def resource_claim_template(document: Document) -> None:
    """resource.k8s.io/v1 ResourceClaimTemplate."""
    _devices(_spec(document).get("spec") or {})


def _devices(spec: Document) -> None:
    for request in (spec.get("devices") or {}).get("requests") or ():
        for wanted in (request.get("exactly"), *(request.get("firstAvailable") or ())):
            if wanted is not None:
                fill(wanted, allocationMode="ExactCount")
                if wanted["allocationMode"] == "ExactCount":
                    wanted["count"] = wanted.get("count") or 1


_ADMISSION = "admissionregistration.k8s.io"
DEFAULTS = {
    ("", "limitranges"): limit_range,
    (_ADMISSION, "validatingwebhookconfigurations"): webhooks,
    (_ADMISSION, "mutatingwebhookconfigurations"): webhooks,
    (_ADMISSION, "validatingadmissionpolicies"): admission_policy,
    (_ADMISSION, "mutatingadmissionpolicies"): admission_policy,
    (_ADMISSION, "validatingadmissionpolicybindings"): admission_policy_binding,
    (_ADMISSION, "mutatingadmissionpolicybindings"): admission_policy_binding,
    ("apiregistration.k8s.io", "apiservices"): api_service,
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): flow_schema,
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): priority_level,
    ("networking.k8s.io", "ingressclasses"): ingress_class,
    ("resource.k8s.io", "resourceclaims"): resource_claim,
    ("resource.k8s.io", "resourceclaimtemplates"): resource_claim_template,
    ("storage.k8s.io", "csidrivers"): csi_driver,
}
