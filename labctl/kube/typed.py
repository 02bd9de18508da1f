"""How an object divides into fields that can have owners, which fields it has, and which a change touches. Pure.

A field is a leaf (a scalar, an atomic list or map: one owner for the whole) or it is granular: an object's fields, a
map's keys, a list's items by their keys or values. The schema says which. Sets are `labctl.kube.fieldset` trees.
Source: structured-merge-diff `typed` (compare, toFieldSet), kube-openapi `schemaconv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from labctl.kube.fieldset import SELF, Fields
from labctl.kube.schema import Shape

Document = dict[str, Any]

LEAF, STRUCT, MAP, KEYED, SET, DEDUCED = range(6)

# What upstream's Go types default in list keys; the published schemas leave it out.
_KEY_DEFAULTS = {"protocol": "TCP", "name": "", "type": ""}
# Never owned. Source: apimachinery `managedfields/internal/stripmeta.go`.
_UNOWNED = frozenset({
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
    "resourceVersion",
})  # fmt: skip
_TYPE = frozenset({"apiVersion", "kind"})
_NESTED = frozenset({dict, list})
_NOTHING: Fields = {}  # the one empty set: sets have many leaves, and nobody changes a set
_encode = msgspec.json.Encoder(order="sorted").encode


class Rule:
    """How one field divides; what lies below is worked out when it is first asked for."""

    __slots__ = ("_fields", "_item", "_shape", "keys", "kind")

    def __init__(self, shape: Shape | None, kind: int) -> None:
        self._shape, self.kind = shape, kind
        self.keys = _list_keys(shape) if shape is not None and kind == KEYED else ()
        self._fields: dict[str, Rule] | None = None
        self._item: Rule | None = None

    @property
    def fields(self) -> Mapping[str, Rule]:
        """Of a struct."""
        found = self._fields
        if found is None:
            assert self._shape is not None
            found = self._fields = {name: rule_of(field) for name, field in self._shape.properties.items()}
        return found

    @property
    def item(self) -> Rule:
        """Of a map's values or a list's items."""
        found = self._item
        if found is None:
            assert self._shape is not None
            inner = self._shape.target.values if self.kind == MAP else self._shape.items
            found = self._item = rule_of(inner) if inner is not None else _ATOM
        return found

    def child(self, name: str) -> Rule:
        """The rule of a struct's field or a map's key; a field that no schema knows is a leaf."""
        if self.kind == STRUCT:
            return self.fields.get(name, _ATOM)
        return self.item if self.kind == MAP else DEDUCE

    def __hash__(self) -> int:
        return id(self)


_ATOM = Rule(None, LEAF)
DEDUCE = Rule(None, DEDUCED)  # no schema: objects are granular, the rest are leaves


@lru_cache(maxsize=16384)
def rule_of(shape: Shape | None) -> Rule:
    """The rule of a type or field; without a schema it is deduced from the values."""
    if shape is None:
        return DEDUCE
    target = shape.target
    if "atomic" in {shape.map_type, target.map_type}:
        return _ATOM
    if shape.kind == "object":
        return Rule(target, STRUCT) if target is shape else rule_of(target)
    if shape.kind == "map":
        return Rule(shape, MAP)
    if shape.kind != "array" or shape.list_type == "atomic":
        return _ATOM
    if shape.list_type == "map" or (not shape.list_type and "merge" in shape.strategies and shape.merge_key):
        return Rule(shape, KEYED)
    if shape.list_type == "set" or (not shape.list_type and "merge" in shape.strategies):
        return Rule(shape, SET)
    return _ATOM


def _list_keys(shape: Shape) -> tuple[str, ...]:
    return tuple(sorted(shape.list_keys or (shape.merge_key,)))


def element(item: Any, rule: Rule) -> str:
    """An item's path element; ValueError where it has none of its keys."""
    if rule.kind == SET:
        return f"v:{_encode(item).decode()}"
    if not isinstance(item, dict):
        raise ValueError("associative list with keys may not have non-map elements")
    found = {}
    for key in rule.keys:
        if key in item:
            found[key] = item[key]
        elif key in _KEY_DEFAULTS:
            found[key] = _KEY_DEFAULTS[key]
    if not found:
        keys = " ".join(f'"{key}"' for key in rule.keys)
        raise ValueError(f"associative list with keys has an element that omits all key fields [{keys}]")
    return f"k:{_encode(found).decode()}"


def index(items: list[Any], rule: Rule) -> dict[str, Any]:
    """Items by path element, in order; the first of repeated ones counts. ValueError as `element`."""
    found: dict[str, Any] = {}
    for item in items:
        found.setdefault(element(item, rule), item)
    return found


def granular(value: Any, rule: Rule) -> int:
    """How this value divides: its rule's kind where the value fits it, else LEAF. Empty ones are leaves."""
    kind = rule.kind
    if kind == LEAF or not value:
        return LEAF
    if kind in {KEYED, SET}:
        return kind if isinstance(value, list) else LEAF
    if not isinstance(value, dict):
        return LEAF
    return MAP if kind == DEDUCED else kind


# --- which fields an object has -------------------------------------------------------------------------------------


def owned(value: Any, rule: Rule, *, dotted: bool) -> Fields:
    """The set below a field. `dotted`: maps and lists are members themselves (as a write that adds them owns them)."""
    kind = granular(value, rule)
    if kind == LEAF:
        return _NOTHING
    if kind == STRUCT:
        fields = rule.fields
        return {
            f"f:{key}": owned(inner, fields.get(key, _ATOM), dotted=dotted) if type(inner) in _NESTED else _NOTHING
            for key, inner in value.items()
        }
    inside: Fields = {SELF: _NOTHING} if dotted else {}
    if kind == MAP:
        for key, inner in value.items():
            inside[f"f:{key}"] = owned(inner, rule.child(key), dotted=dotted) if type(inner) in _NESTED else _NOTHING
        return inside
    try:
        for name, item in index(value, rule).items():
            inside[name] = _item_set(item, rule.item, dotted=dotted)
    except ValueError:
        return _NOTHING
    return inside


def _item_set(item: Any, rule: Rule, *, dotted: bool) -> Fields:
    inside = owned(item, rule, dotted=dotted)
    return {SELF: _NOTHING, **inside} if inside else inside


def object_set(document: Document, rule: Rule, *, dotted: bool = False, skip: tuple[str, ...] = ()) -> Fields:
    """Every field of an object that can have an owner, except the top-level ones in `skip`."""
    found: Fields = {}
    for key, value in document.items():
        if key in _TYPE or key in skip:
            continue
        child = rule.child(key)
        if key == "metadata":
            value = {name: inner for name, inner in value.items() if name not in _UNOWNED}  # noqa: PLW2901
            if not value:
                continue
        found[f"f:{key}"] = owned(value, child, dotted=dotted)
    return found


# --- what a change touches ------------------------------------------------------------------------------------------


class Difference(msgspec.Struct, frozen=True):
    """`changed`: paths whose value is new or another. `gone`: paths that are no more, with all that was below them."""

    changed: Fields
    gone: Fields

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)


def compare(old: Document, new: Document, rule: Rule) -> Difference:
    """What an update changes, as far as it can have owners."""
    changed: Fields = {}
    gone: Fields = {}
    for key in old.keys() | new.keys():
        if key in _TYPE:
            continue
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if key == "metadata":
            before = {name: value for name, value in (before or {}).items() if name not in _UNOWNED}
            after = {name: value for name, value in (after or {}).items() if name not in _UNOWNED}
            if before == after:
                continue
        _note(f"f:{key}", (before, key in old), (after, key in new), rule.child(key), (changed, gone))
    return Difference(changed, gone)


def _note(
    name: str,
    old: tuple[Any, bool],
    new: tuple[Any, bool],
    rule: Rule,
    into: tuple[Fields, Fields],
    *,
    item: bool = False,
) -> None:
    """Add what became of one element to `into` (changed, gone)."""
    changed, gone = into
    before, had = old
    after, has = new
    if not has:
        gone[name] = {}
    elif not had:
        changed[name] = _item_set(after, rule, dotted=True) if item else owned(after, rule, dotted=True)
    elif before != after:
        more, less, leaf = _differ(before, after, rule)
        if more or leaf:
            changed[name] = more
        if less:
            gone[name] = less


def _differ(old: Any, new: Any, rule: Rule) -> tuple[Fields, Fields, bool]:
    """(changed below, gone below, whether the field itself counts as changed, as a leaf does)."""
    kind = granular(old, rule) or granular(new, rule)
    if kind == LEAF or not isinstance(new, type(old)):
        return {}, {}, True
    changed: Fields = {}
    gone: Fields = {}
    is_list = kind in {KEYED, SET}
    if is_list:
        if len(old) == len(new):  # items that stand where they stood need no name
            moved = [(before, after) for before, after in zip(old, new, strict=True) if before != after]
            old, new = [before for before, _ in moved], [after for _, after in moved]
        try:
            old, new = index(old, rule), index(new, rule)
        except ValueError:
            return {}, {}, True
    for key, value in new.items():
        name, child = (key, rule.item) if is_list else (f"f:{key}", rule.child(key))
        _note(name, (old.get(key), key in old), (value, True), child, (changed, gone), item=is_list)
    for key in old:
        if key not in new:
            gone[key if is_list else f"f:{key}"] = {}
    return changed, gone, False
