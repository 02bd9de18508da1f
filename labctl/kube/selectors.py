"""Label and field selectors at work; `selector_text` reads them.

Sources: apimachinery `labels/selector.go`, `fields/selector.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


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


class LabelSelector(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`metav1.LabelSelector`, for views."""

    match_labels: Mapping[str, str] = {}
    match_expressions: Selector = ()

    @property
    def terms(self) -> Selector:
        """All of it; of an empty one nothing, which matches everything."""
        own = (Requirement(key, "In", (value,)) for key, value in self.match_labels.items())
        return (*own, *self.match_expressions)


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether every requirement holds."""
    return all(requirement.matches(labels) for requirement in selector)


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
