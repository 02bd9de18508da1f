"""The three patches a client can send besides apply: JSON patch, merge patch, strategic merge patch. Pure functions.

Each returns a new document and leaves its inputs alone; parts that did not change are shared with the old one.
Sources: RFC 6902, RFC 7386, and Kubernetes' strategic merge patch
(sig-api-machinery/strategic-merge-patch.md; directives `$patch`, `$retainKeys`, `$setElementOrder`,
`$deleteFromPrimitiveList`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.kube.schema import Shape
from labctl.runtime.errors import LabError

_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


class PatchError(LabError):
    """The patch is malformed; the API answers 400."""


class PatchRejected(LabError):
    """The patch is well formed but does not fit the document; the API answers 422."""


# --- JSON patch -------------------------------------------------------------------------------------------------


def json_patch(document: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """RFC 6902."""
    for operation in operations:
        if not isinstance(operation, Mapping) or not isinstance(operation.get("path"), str):
            raise PatchError("error decoding patch: each operation needs an op and a path")
        document = _operate(document, operation)
    return document


def _operate(document: Any, operation: Mapping[str, Any]) -> Any:
    op, path = operation.get("op"), _pointer(operation["path"])
    if op in {"add", "replace", "test"} and "value" not in operation:
        raise PatchError(f"error decoding patch: {op} operation is missing its value")
    if op == "add":
        return _put(document, path, operation["value"], insert=True)
    if op == "replace":
        _find(document, path)
        return _put(document, path, operation["value"], insert=False)
    if op == "remove":
        return _remove(document, path)
    if op == "test":
        if not same(_find(document, path, missing_ok=True), operation["value"]):
            raise PatchRejected(f"testing value {operation['path']} failed: test failed")
        return document
    if op in {"move", "copy"}:
        source = _pointer(str(operation.get("from", "")))
        if op == "move" and path[: len(source)] == source and path != source:
            raise PatchRejected("cannot move a value into itself")
        value = _find(document, source)
        return _put(_remove(document, source) if op == "move" else document, path, value, insert=True)
    raise PatchError(f"error decoding patch: unexpected kind: {op}")


def same(left: Any, right: Any) -> bool:
    """JSON equality: a boolean is never a number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def _pointer(path: str) -> list[str]:
    if path == "":
        return []
    if not path.startswith("/"):
        raise PatchError(f"error decoding patch: path {path!r} must begin with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]


def _index(part: str, length: int) -> int:
    if not part.isascii() or not part.isdigit() or (part != "0" and part.startswith("0")):
        raise PatchRejected(f"invalid array index {part!r}")
    if int(part) >= length:
        raise PatchRejected(f"array index {part} is out of bounds")
    return int(part)


def _find(node: Any, path: Sequence[str], *, missing_ok: bool = False) -> Any:
    for part in path:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list):
            node = node[_index(part, len(node))]
        elif missing_ok:
            return None
        else:
            raise PatchRejected(f"the server rejected our request due to an error in our request: no value at {part!r}")
    return node


def _put(node: Any, path: Sequence[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(node, dict):
        if rest and part not in node:
            raise PatchRejected(f"add operation does not apply: doc is missing path: {part!r}")
        return {**node, part: _put(node.get(part), rest, value, insert=insert)}
    if isinstance(node, list):
        copy = list(node)
        if rest or not insert:
            index = _index(part, len(node))
            copy[index] = _put(node[index], rest, value, insert=insert)
        else:
            copy.insert(len(node) if part == "-" else _index(part, len(node) + 1), value)
        return copy
    raise PatchRejected(f"add operation does not apply: {part!r} is not in an object or array")


def _remove(node: Any, path: Sequence[str]) -> Any:
    if not path:
        raise PatchRejected("the whole document cannot be removed")
    part, rest = path[0], path[1:]
    if isinstance(node, dict) and part in node:
        if rest:
            return {**node, part: _remove(node[part], rest)}
        return {key: value for key, value in node.items() if key != part}
    if isinstance(node, list):
        index = _index(part, len(node))
        if rest:
            return [*node[:index], _remove(node[index], rest), *node[index + 1 :]]
        return node[:index] + node[index + 1 :]
    raise PatchRejected(f"remove operation does not apply: doc is missing path: {part!r}")


# --- merge patch ------------------------------------------------------------------------------------------------


def merge_patch(document: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


# --- strategic merge patch --------------------------------------------------------------------------------------


def strategic_patch(document: Any, patch: Any, shape: Shape | None) -> Any:
    """Merge by the schema: lists with a merge key merge item by item, others replace. No shape: a merge patch."""
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in {None, "merge"}:
        raise PatchError(f"unknown $patch directive {directive!r}")
    merged = dict(document) if isinstance(document, dict) else {}
    if "$retainKeys" in patch:
        merged = {key: value for key, value in merged.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        field = _field(shape, key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, list):
            merged[key] = _merge_list(merged.get(key), value, field, patch.get(_ORDER + key))
        else:
            merged[key] = _merge_value(merged.get(key), value, field)
    _directed_lists(merged, patch, shape)
    return merged


def _field(shape: Shape | None, key: str) -> Shape | None:
    if shape is None:
        return None
    return shape.properties.get(key) or shape.target.values


def _merge_value(old: Any, new: Any, field: Shape | None) -> Any:
    if not isinstance(new, dict):
        return new
    if field is not None and "replace" in field.strategies:
        return strategic_patch({}, new, field)
    return strategic_patch(old, new, field)


def _directed_lists(merged: dict[str, Any], patch: Mapping[str, Any], shape: Shape | None) -> None:
    """Carry out `$deleteFromPrimitiveList/x` and a `$setElementOrder/x` that comes without x."""
    for key, value in patch.items():
        if key.startswith(_DELETE):
            name = key[len(_DELETE) :]
            merged[name] = [entry for entry in merged.get(name) or () if entry not in value]
        elif key.startswith(_ORDER):
            name = key[len(_ORDER) :]
            if name in merged and not isinstance(patch.get(name), list):
                field = _field(shape, name)
                merged[name] = _ordered(merged[name], value, field.merge_key if field else "")


def _merge_list(old: Any, new: list[Any], field: Shape | None, order: Any) -> list[Any]:
    current: list[Any] = old if isinstance(old, list) else []
    if field is None or "merge" not in field.strategies:
        return [
            entry
            for entry in new
            if not (isinstance(entry, dict) and entry.get("$patch") == "replace" and len(entry) == 1)
        ]
    if any(isinstance(entry, dict) and entry.get("$patch") == "replace" for entry in new):
        return [entry for entry in new if not (isinstance(entry, dict) and entry.get("$patch") == "replace")]
    if not field.merge_key:
        merged = [*current, *(entry for entry in new if entry not in current)]
        return _ordered(merged, order, "") if order is not None else merged
    merged = _merge_items(current, new, field)
    if order is not None:
        return _ordered(merged, order, field.merge_key)
    return merged


def _merge_items(current: list[Any], new: list[Any], field: Shape) -> list[Any]:
    key = field.merge_key
    merged = list(current)
    for entry in new:
        if not isinstance(entry, dict) or (key not in entry and entry.get("$patch") != "delete"):
            raise PatchError(f"map: {entry!r} does not contain declared merge key: {key}")
        places = [at for at, item in enumerate(merged) if isinstance(item, dict) and item.get(key) == entry.get(key)]
        if entry.get("$patch") == "delete":
            merged = [item for at, item in enumerate(merged) if at not in places]
        elif places:
            merged[places[0]] = strategic_patch(merged[places[0]], entry, field.items)
        else:
            merged.append(strategic_patch({}, entry, field.items))
    return merged


def _ordered(items: list[Any], order: Any, key: str) -> list[Any]:
    """Items named in `order` in that order; the server's other items keep their places."""
    if not isinstance(order, list):
        raise PatchError("$setElementOrder must be a list")

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [identity(entry) for entry in order]
    named = sorted((item for item in items if identity(item) in wanted), key=lambda item: wanted.index(identity(item)))
    result: list[Any] = []
    queue = list(named)
    for item in items:
        if identity(item) in wanted:
            result.append(queue.pop(0))
        else:
            result.append(item)
    return result
