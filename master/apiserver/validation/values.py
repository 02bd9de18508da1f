"""Rules that many kinds share: numbers, percentages, ports, quantities, selectors, what may not change. Pure.

Every function adds what it finds to `found`, a list of errors, and leaves the rest to its caller.
"""

from __future__ import annotations

from typing import Any

from labctl.kube.quantity import parse
from labctl.kube.selectors import Selector, from_label_selector
from master.apiserver import names
from master.apiserver.metadata import label_errors
from master.apiserver.problems import FieldError, forbidden_field, invalid, required, unsupported

Document = dict[str, Any]
Found = list[FieldError]

NOT_NEGATIVE = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"
PROTOCOLS = ("SCTP", "TCP", "UDP")
_SELECTORS = ("In", "NotIn", "Exists", "DoesNotExist")


def formed(value: str, field: str, check: names.Check, found: Found) -> None:
    """The value has the form that `check` wants."""
    for text in check(value):
        found.append(invalid(field, value, text))


def named(value: str, field: str, check: names.Check, found: Found) -> None:
    """The value is there and has the form."""
    if value:
        formed(value, field, check, found)
    else:
        found.append(required(field))


def whole(document: Document, path: str, *fields: str, found: Found) -> None:
    """None of the fields is negative."""
    for field in fields:
        value = document.get(field)
        if isinstance(value, int) and value < 0:
            found.append(invalid(f"{path}.{field}".lstrip("."), value, NOT_NEGATIVE))


def choice(value: Any, field: str, allowed: tuple[str, ...], found: Found) -> None:
    """The value is there and one of `allowed`."""
    if value in (None, ""):
        found.append(required(field))
    elif value not in allowed:
        found.append(unsupported(field, value, allowed))


def optional_choice(value: Any, field: str, allowed: tuple[str, ...], found: Found) -> None:
    """The value is not set, or one of `allowed`."""
    if value is not None and value not in allowed:
        found.append(unsupported(field, value, allowed))


def port(number: Any, field: str, found: Found) -> None:
    """A port's number."""
    if isinstance(number, int):
        for text in names.port_number(number):
            found.append(invalid(field, number, text))


def port_or_name(value: Any, field: str, found: Found) -> None:
    """A port by number or by name."""
    if isinstance(value, str):
        formed(value, field, names.port_name, found)
    else:
        port(value if value is not None else 0, field, found)


def int_or_percent(value: Any, field: str, found: Found) -> None:
    """A whole number, or a percentage."""
    if isinstance(value, str):
        formed(value, field, names.percent, found)
    elif isinstance(value, int) and value < 0:
        found.append(invalid(field, value, NOT_NEGATIVE))


def at_most_all(value: Any, field: str, found: Found) -> None:
    """If it is a percentage, no more than 100%."""
    if percentage(value) > 100 and isinstance(value, str):
        found.append(invalid(field, value, "must not be greater than 100%"))


def percentage(value: Any) -> int:
    """The number of a percentage or a whole number; 0 for what is neither."""
    if isinstance(value, str):
        return int(value[:-1]) if value.endswith("%") and value[:-1].isdigit() else 0
    return value if isinstance(value, int) else 0


def quantity(name: str, value: Any, field: str, found: Found) -> None:
    """A resource's amount: not negative, and whole where the resource is counted."""
    amount = parse(value)
    if amount < 0:
        found.append(invalid(field, value, NOT_NEGATIVE))
    if amount % 1 and is_counted(name):
        found.append(invalid(field, value, "must be an integer"))


_COUNTED = frozenset({
    "pods", "services", "replicationcontrollers", "secrets", "configmaps", "persistentvolumeclaims",
    "services.nodeports", "services.loadbalancers", "resourcequotas",
})  # fmt: skip


def is_native(name: str) -> bool:
    """Whether a resource's name is one of Kubernetes' own."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """Whether a resource is one that nodes advertise by themselves, such as a device."""
    return not is_native(name) and not name.startswith("requests.") and not names.key(f"requests.{name}")


def is_counted(name: str) -> bool:
    """Whether a resource comes in whole numbers only."""
    return name in _COUNTED or is_extended(name)


def is_overcommitted(name: str) -> bool:
    """Whether a container may request less of a resource than its limit."""
    return is_native(name) and not name.startswith("hugepages-")


def selector(given: Document | None, path: str, found: Found) -> Selector | None:
    """A label selector; in its parsed form where it can be read, else None."""
    if given is None:
        return None
    before = len(found)
    found += label_errors(given.get("matchLabels") or {}, f"{path}.matchLabels")
    for at, entry in enumerate(given.get("matchExpressions") or ()):
        _requirement(entry, f"{path}.matchExpressions[{at}]", found)
    return from_label_selector(given) if len(found) == before else None


def _requirement(entry: Document, path: str, found: Found) -> None:
    operator, values = entry.get("operator", ""), entry.get("values") or ()
    if operator not in _SELECTORS:
        found.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    elif operator in {"In", "NotIn"} and not values:
        found.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in {"Exists", "DoesNotExist"} and values:
        told = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        found.append(forbidden_field(f"{path}.values", told))
    formed(entry.get("key", ""), f"{path}.key", names.key, found)
    for at, value in enumerate(values):
        formed(value, f"{path}.values[{at}]", names.value, found)


def is_empty_selector(given: Document | None) -> bool:
    """Whether a selector is there and selects everything."""
    return given is not None and not given.get("matchLabels") and not given.get("matchExpressions")


def unchanged(new: Document, old: Document, paths: tuple[str, ...], found: Found) -> None:
    """None of the fields at these dotted paths changed."""
    for path in paths:
        value = at(new, path)
        if value != at(old, path):
            found.append(invalid(path, value, IMMUTABLE))


def at(document: Document, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    node: Any = document
    for part in path.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def prefixed_path(text: str, field: str, found: Found) -> None:
    """A domain, a slash and a path: the name of an ingress controller, of a Job's manager."""
    domain, _, rest = text.partition("/")
    if not text:
        found.append(required(field))
    elif not (domain and rest):
        found.append(invalid(field, text, 'must be a domain-prefixed path (such as "acme.io/foo")'))
    else:
        formed(domain, field, names.subdomain, found)
        formed(rest, field, names.url_path, found)
