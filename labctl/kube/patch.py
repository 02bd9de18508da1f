"""JSON patch and merge patch; strategic merge patch has a module of its own. Pure functions.

Each returns a new document and leaves its inputs alone; parts that did not change are shared with the old one.
Sources: RFC 6902, RFC 7396; where the first leaves room, what upstream's evanphx/json-patch v4 does: an index may count
from the end (-1 is the last), a `test` for null holds where there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from labctl.runtime.errors import LabError

MAX_OPERATIONS = 10_000
_MAX_COPIED_BYTES = 3 * 1024 * 1024  # by all copies of one patch together: each may double the document


class PatchError(LabError):
    """The patch is malformed; the API answers 400."""


class PatchRejected(LabError):
    """The patch is well formed but does not fit the document; the API answers 422."""


# --- JSON patch -------------------------------------------------------------------------------------------------


def json_patch(document: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """RFC 6902. PatchError, PatchRejected."""
    copied = 0
    for operation in operations:
        if not isinstance(operation, Mapping) or not all(isinstance(operation.get(key), str) for key in ("op", "path")):
            raise PatchError("error decoding patch: each operation needs an op and a path")
        if operation.get("op") == "copy":
            copied += len(msgspec.json.encode(_find(document, _pointer(_source(operation)))))
            if copied > _MAX_COPIED_BYTES:
                raise PatchRejected(
                    f"Unable to copy, the accumulated size increase of copy is {copied},"
                    f" exceeding the limit {_MAX_COPIED_BYTES}"
                )
        document = _operate(document, operation)
    return document


def _source(operation: Mapping[str, Any]) -> str:
    found = operation.get("from")
    if not isinstance(found, str):
        raise PatchError(f"error decoding patch: {operation['op']} operation is missing its from")
    return found


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
        if not same(_tested(document, path), operation["value"]):
            raise PatchRejected(f"testing value {operation['path']} failed: test failed")
        return document
    if op in {"move", "copy"}:
        source = _pointer(_source(operation))
        if op == "move" and path[: len(source)] == source and path != source:
            raise PatchRejected("cannot move a value into itself")
        value = _find(document, source)
        return _put(_remove(document, source) if op == "move" else document, path, value, insert=True)
    raise PatchError(f"error decoding patch: unexpected kind: {op}")


def _tested(document: Any, path: Sequence[str]) -> Any:
    """The value there; None where the object that would hold it has no such key."""
    if not path:
        return document
    holder = _find(document, path[:-1])
    if isinstance(holder, dict):
        return holder.get(path[-1])
    return _find(holder, path[-1:])


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
    digits = part.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or (digits.startswith("0") and part != "0"):
        raise PatchRejected(f"invalid array index {part!r}")
    at = int(part)
    if not -length <= at < length:
        raise PatchRejected(f"array index {part} is out of bounds")
    return at if at >= 0 else at + length


def _find(node: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list):
            node = node[_index(part, len(node))]
        else:
            raise PatchRejected(f"doc is missing path: {part!r}")
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
    """RFC 7396: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
