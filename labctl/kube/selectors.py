"""Label and field selectors. Sources: apimachinery `labels/selector.go`, `fields/selector.go`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

_OPERATORS = {"=": "In", "==": "In", "!=": "NotIn"}
_KEY = re.compile(r"^([a-z0-9A-Z]([-a-z0-9A-Z.]*[a-z0-9A-Z])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^)]*)\)$")
_COMPARES = re.compile(r"^([^=!<>\s]+)\s*([<>])\s*(-?[0-9]+)$")
_EQUALS = re.compile(r"^([^=!\s]+)\s*(==|!=|=)\s*(\S*)$")


class Requirement(msgspec.Struct, frozen=True):
    """One term; `operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` satisfy this term; NotIn and DoesNotExist hold where the key is absent."""
        value = labels.get(self.key)
        if self.operator in {"Exists", "DoesNotExist"}:
            return (value is not None) == (self.operator == "Exists")
        if self.operator == "NotIn":
            return value is None or value not in self.values
        if value is None:
            return False
        if self.operator == "In":
            return value in self.values
        try:
            left, right = int(value), int(self.values[0])
        except (ValueError, IndexError):
            return False
        return left > right if self.operator == "Gt" else left < right


Selector = tuple[Requirement, ...]  # all must hold; the empty one matches everything


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether every requirement holds."""
    return all(requirement.matches(labels) for requirement in selector)


def parse_labels(text: str) -> Selector:
    """Parse `a=b,c!=d,e in (f,g),h,!i`; ValueError says which term is wrong."""
    return tuple(_term(term) for term in _split(text) if term)


def _split(text: str) -> list[str]:
    """Split at the commas outside parentheses."""
    return [term.strip() for term in re.split(r",(?![^(]*\))", text)] if text.strip() else []


def _term(term: str) -> Requirement:
    if found := _SET.match(term):
        key, operator, values = found.groups()
        names = tuple(value.strip() for value in values.split(","))
        requirement = Requirement(key, "In" if operator == "in" else "NotIn", names)
    elif found := _EQUALS.match(term):
        key, operator, value = found.groups()
        requirement = Requirement(key, _OPERATORS[operator], (value,))
    elif found := _COMPARES.match(term):
        key, operator, value = found.groups()
        requirement = Requirement(key, "Gt" if operator == ">" else "Lt", (value,))
    elif term.startswith("!"):
        requirement = Requirement(term[1:].strip(), "DoesNotExist")
    else:
        requirement = Requirement(term, "Exists")
    if not _KEY.match(requirement.key):
        raise ValueError(f"unable to parse requirement: invalid label key {requirement.key!r} in {term!r}")
    return requirement


def from_label_selector(selector: Mapping[str, Any] | None) -> Selector | None:
    """A `metav1.LabelSelector` object; None (nothing matches) for None, () (everything) for an empty one."""
    if selector is None:
        return None
    terms = [Requirement(key, "In", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        terms.append(Requirement(expression["key"], expression["operator"], tuple(expression.get("values") or ())))
    return tuple(terms)


class FieldTerm(msgspec.Struct, frozen=True):
    """`path=value` or `path!=value`."""

    path: str
    value: str
    negated: bool = False


def parse_fields(text: str) -> tuple[FieldTerm, ...]:
    """Parse `metadata.name=a,status.phase!=Running`; ValueError where a term has no operator."""
    terms = []
    for term in _split(text):
        found = _EQUALS.match(term)
        if found is None:
            raise ValueError(f"invalid field selector: {term!r}; can't understand it")
        path, operator, value = found.groups()
        terms.append(FieldTerm(path, value, operator == "!="))
    return tuple(terms)


def matches_fields(terms: Sequence[FieldTerm], document: Mapping[str, Any]) -> bool:
    """Whether the document's fields (absent counts as "") satisfy every term."""
    return all((_value(document, term.path) == term.value) != term.negated for term in terms)


def _value(document: Mapping[str, Any], path: str) -> str:
    node: Any = document
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if isinstance(node, bool):
        return str(node).lower()
    return "" if node is None else str(node)
