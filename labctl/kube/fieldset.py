"""Sets of field paths in the form that `fieldsV1` has on the wire, worked on as they are. Pure functions.

A set is a tree of path elements: `f:name` a field or map key, `k:{"name":"web"}` a list item by its keys, `v:"x"` an
item of a set, `i:0` one by its place. A node without children is a member; one with children is a member only where
it holds `.` besides. The root is never a member, so the empty tree is the empty set. No function changes its inputs;
parts that did not change are shared. Source: structured-merge-diff `fieldpath` (Set, PathElement), KEP-555.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

Fields = dict[str, Any]  # element -> Fields

SELF = "."


def union(left: Fields, right: Fields) -> Fields:
    """Members of either."""
    if not left or not right:
        return left or right
    merged = dict(left)
    for element, node in right.items():
        merged[element] = _both(merged[element], node) if element in merged else node
    return merged


def _both(left: Fields, right: Fields) -> Fields:
    if left is right:
        return left
    if left and right:
        return union(left, right)
    fuller = left or right  # the other is a member and nothing else
    return fuller if not fuller or SELF in fuller else {SELF: {}, **fuller}


def difference(left: Fields, right: Fields) -> Fields:
    """Members of `left` that are not in `right`; what lies below a member of `right` stays."""
    return _minus(left, right, below=False) if right else left


def without(left: Fields, right: Fields) -> Fields:
    """Members of `left` that are neither in `right` nor below a member of it."""
    return _minus(left, right, below=True) if right else left


def _minus(left: Fields, right: Fields, *, below: bool) -> Fields:
    kept: Fields = {}
    for element, node in left.items():
        other = right.get(element)
        if other is None:
            kept[element] = node
            continue
        gone = not other or SELF in other
        if gone and (below or not node):
            continue
        if not node:  # a member, and `right` names only what lies below
            kept[element] = node
            continue
        rest = _minus(node, other, below=below)
        if gone:
            rest.pop(SELF, None)
        if rest:
            kept[element] = {} if rest.keys() == {SELF} else rest
    return kept


def intersection(left: Fields, right: Fields) -> Fields:
    """Members of both."""
    found: Fields = {}
    for element, node in left.items():
        other = right.get(element)
        if other is None:
            continue
        inner = intersection(node, other) if node and other else {}
        inner.pop(SELF, None)
        member = (not node or SELF in node) and (not other or SELF in other)
        if inner:
            found[element] = {SELF: {}, **inner} if member else inner
        elif member:
            found[element] = {}
    return found


def is_member(node: Fields | None) -> bool:
    """Whether the path that ends at `node` is itself in the set."""
    return node is not None and (not node or SELF in node)


def paths(fields: Fields, prefix: str = "") -> Iterator[str]:
    """Every member as people read it: `.spec.containers[name="web"].image`; a level's members before what is below."""
    below = []
    for element in sorted(fields, key=_order):
        if element == SELF:
            continue
        node, path = fields[element], prefix + shown(element)
        if is_member(node):
            yield path
        if node:
            below.append((node, path))
    for node, path in below:
        yield from paths(node, path)


def _order(element: str) -> tuple[int, str]:
    return "fkvi".find(element[:1]), element


def shown(element: str) -> str:
    """One element as in an error message."""
    mark, _, rest = element.partition(":")
    if mark == "f":
        return f".{rest}"
    if mark == "k":
        keys = msgspec.json.decode(rest)
        return f"[{','.join(f'{name}={_json(value)}' for name, value in sorted(keys.items()))}]"
    return f"[={rest}]" if mark == "v" else f"[{rest}]"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def parse(raw: Any) -> Fields:
    """A set that a client sent; ValueError where it is none."""
    if not isinstance(raw, dict):
        raise ValueError("a set of fields is an object")
    for element, node in raw.items():
        if element == SELF:
            continue
        mark, colon, rest = element.partition(":")
        if not colon or mark not in {"f", "k", "v", "i"}:
            raise ValueError(f"{element!r} is no path element")
        if mark == "i" and not rest.removeprefix("-").isdigit():
            raise ValueError(f"{element!r} is no index")
        if mark in {"k", "v"}:
            _keys(mark, rest)
        parse(node)
    return raw


def _keys(mark: str, text: str) -> None:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"{text!r} is no JSON") from error
    if mark == "k" and not isinstance(value, dict):
        raise ValueError(f"{text!r} names no keys")
