"""Rules of where a pod may run: affinity, tolerations, spread constraints. Pure.

Source: `validateAffinity`, `ValidateTolerations`, `validateTopologySpreadConstraints`.
"""

from __future__ import annotations

from typing import Any

from master.apiserver import names
from master.apiserver.problems import duplicate, forbidden_field, invalid, required, unsupported
from master.apiserver.validation.values import Document, Found, formed, optional_choice, selector

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
_WHEN = ("DoNotSchedule", "ScheduleAnyway")
_POLICIES = ("Honor", "Ignore")


def affinity(given: Document, path: str, found: Found) -> None:
    """A pod's affinity of all three sorts."""
    if nodes := given.get("nodeAffinity"):
        _node_affinity(nodes, f"{path}.nodeAffinity", found)
    for kind in ("podAffinity", "podAntiAffinity"):
        if pods := given.get(kind):
            for at, term in enumerate(pods.get(_REQUIRED) or ()):
                _pod_term(term, f"{path}.{kind}.{_REQUIRED}[{at}]", found)
            for at, weighted in enumerate(pods.get(_PREFERRED) or ()):
                place = f"{path}.{kind}.{_PREFERRED}[{at}]"
                _weight(weighted, place, found)
                _pod_term(weighted.get("podAffinityTerm") or {}, f"{place}.podAffinityTerm", found)


def _node_affinity(given: Document, path: str, found: Found) -> None:
    if _REQUIRED in given:
        node_selector(given[_REQUIRED] or {}, f"{path}.{_REQUIRED}", found)
    for at, term in enumerate(given.get(_PREFERRED) or ()):
        place = f"{path}.{_PREFERRED}[{at}]"
        _weight(term, place, found)
        _node_term(term.get("preference") or {}, f"{place}.preference", found, strict=False)


def node_selector(given: Document, path: str, found: Found) -> None:
    """Terms of which a node must match one."""
    terms = given.get("nodeSelectorTerms") or ()
    if not terms:
        found.append(required(f"{path}.nodeSelectorTerms", "must have at least one node selector term"))
    for at, term in enumerate(terms):
        _node_term(term, f"{path}.nodeSelectorTerms[{at}]", found, strict=True)


def _weight(term: Document, path: str, found: Found) -> None:
    weight = term.get("weight", 0)
    if not 1 <= weight <= 100:
        found.append(invalid(f"{path}.weight", weight, "must be in the range 1-100"))


def _node_term(term: Document, path: str, found: Found, *, strict: bool) -> None:
    for at, entry in enumerate(term.get("matchExpressions") or ()):
        _node_requirement(entry, f"{path}.matchExpressions[{at}]", found, strict=strict)
    for at, entry in enumerate(term.get("matchFields") or ()):
        _node_field(entry, f"{path}.matchFields[{at}]", found)


def _node_requirement(entry: Document, path: str, found: Found, *, strict: bool) -> None:
    operator, values = entry.get("operator", ""), entry.get("values") or ()
    if operator in {"In", "NotIn"}:
        if not values:
            found.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in {"Exists", "DoesNotExist"}:
        if values:
            told = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            found.append(forbidden_field(f"{path}.values", told))
    elif operator in {"Gt", "Lt"}:
        if len(values) != 1:
            told = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            found.append(required(f"{path}.values", told))
    else:
        found.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    formed(entry.get("key", ""), f"{path}.key", names.key, found)
    for at, value in enumerate(values if strict else ()):
        formed(value, f"{path}.values[{at}]", names.value, found)


def _node_field(entry: Document, path: str, found: Found) -> None:
    operator, values = entry.get("operator", ""), entry.get("values") or ()
    if operator not in {"In", "NotIn"}:
        found.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    elif len(values) != 1:
        told = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        found.append(required(f"{path}.values", told))
    if entry.get("key") != "metadata.name":
        found.append(invalid(f"{path}.key", entry.get("key", ""), "not a valid field selector key"))
    else:
        for at, value in enumerate(values):
            formed(value, f"{path}.values[{at}]", names.subdomain, found)


def _pod_term(term: Document, path: str, found: Found) -> None:
    selector(term.get("labelSelector"), f"{path}.labelSelector", found)
    selector(term.get("namespaceSelector"), f"{path}.namespaceSelector", found)
    for name in term.get("namespaces") or ():
        formed(name, f"{path}.namespace", names.label, found)
    key = term.get("topologyKey", "")
    if not key:
        found.append(required(f"{path}.topologyKey", "can not be empty"))
    formed(key, f"{path}.topologyKey", names.key, found)


def tolerations(given: list[Document], path: str, found: Found) -> None:
    """What taints a pod bears."""
    for at, entry in enumerate(given):
        _toleration(entry, f"{path}[{at}]", found)


def _toleration(entry: Document, path: str, found: Found) -> None:
    key, operator, value = entry.get("key", ""), entry.get("operator", ""), entry.get("value", "")
    effect = entry.get("effect", "")
    if key:
        formed(key, f"{path}.key", names.key, found)
    elif operator != "Exists":
        told = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        found.append(invalid(f"{path}.operator", operator, told))
    if "tolerationSeconds" in entry and effect != "NoExecute":
        told = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        found.append(invalid(f"{path}.effect", effect, told))
    if operator in {"", "Equal"}:
        if value and (wrong := names.value(value)):
            found.append(invalid(f"{path}.operator", value, ";".join(wrong)))
    elif operator == "Exists":
        if value:
            told = "value must be empty when `operator` is 'Exists'"
            found.append(invalid(f"{path}.operator", value, told))
    elif operator in {"Lt", "Gt"}:
        if not value.lstrip("-").isdigit():
            told = "must be a valid decimal integer in canonical form"
            found.append(invalid(f"{path}.value", value, told))
    else:
        found.append(unsupported(f"{path}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in EFFECTS:
        found.append(unsupported(f"{path}.effect", effect, EFFECTS))


def taints(given: list[Document], path: str, found: Found) -> None:
    """What keeps pods off a node; once by key and effect."""
    taken: set[tuple[str, str]] = set()
    for at, taint in enumerate(given):
        place, key, effect = f"{path}[{at}]", taint.get("key", ""), taint.get("effect", "")
        formed(key, f"{place}.key", names.key, found)
        if wrong := names.value(taint.get("value", "")):
            found.append(invalid(f"{place}.value", taint["value"], ";".join(wrong)))
        if not effect:
            found.append(required(f"{place}.effect"))
        elif effect not in EFFECTS:
            found.append(unsupported(f"{place}.effect", effect, EFFECTS))
        if (key, effect) in taken:
            error = duplicate(place, taint)
            told = f"{error.message}: taints must be unique by key and effect pair"
            found.append(type(error)(error.reason, error.field, told))
        taken.add((key, effect))


def spread(given: list[Document], path: str, found: Found) -> None:
    """How evenly a pod's kind is spread over the nodes."""
    seen: dict[tuple[Any, Any], int] = {}
    for at, entry in enumerate(given):
        place, when = f"{path}[{at}]", entry.get("whenUnsatisfiable", "")
        for key in ("maxSkew", "minDomains"):
            value = entry.get(key, 0 if key == "maxSkew" else 1)
            if value <= 0:
                found.append(invalid(f"{place}.{key}", value, "must be greater than zero"))
        if not entry.get("topologyKey"):
            found.append(required(f"{place}.topologyKey", "can not be empty"))
        if when not in _WHEN:
            found.append(unsupported(f"{place}.whenUnsatisfiable", when, _WHEN))
        pair = (entry.get("topologyKey"), when)
        if pair in seen:  # upstream names the earlier of the two
            field = f"{path}[{seen[pair]}].{{topologyKey, whenUnsatisfiable}}"
            found.append(duplicate(field, f"{{{pair[0]}, {pair[1]}}}"))
        seen[pair] = at
        if "minDomains" in entry and when != "DoNotSchedule":
            told = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
            found.append(invalid(f"{place}.minDomains", entry["minDomains"], told))
        for key in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            optional_choice(entry.get(key), f"{place}.{key}", _POLICIES, found)
        selector(entry.get("labelSelector"), f"{place}.labelSelector", found)
