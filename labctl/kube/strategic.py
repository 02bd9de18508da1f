"""Strategic merge patch: a merge patch that knows from the schema which lists merge item by item. Pure functions.

Directives: `$patch` (replace, delete, merge), `$retainKeys`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`.
The result is a new document; parts that did not change are shared with the old one.
Source: sig-api-machinery/strategic-merge-patch.md, apimachinery `util/strategicpatch/patch.go` (mergeMap, mergeSlice,
mergePatchIntoOriginal, normalizeElementOrder).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labctl.kube.patch import PatchError
from labctl.kube.schema import Shape

_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"
_PATCH, _RETAIN = "$patch", "$retainKeys"
_BAD_RETAIN = "invalid patch format of retainKeys"
_BAD_ORDER = "invalid patch format of setElementOrder list"
_BAD_DELETE = "invalid patch format of primitive list"

Identity = Callable[[Any], Any]


def strategic_patch(document: Any, patch: Any, shape: Shape | None) -> Any:
    """Merge `patch` into `document`; without a schema a merge patch. PatchError where the patch makes no sense."""
    if not isinstance(patch, dict):
        return patch
    directive = patch.get(_PATCH)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _PATCH}
    if directive == "delete":
        return {}
    if directive is not None and directive != "merge":
        raise PatchError(f"unknown patch type found: {directive}")
    merged = dict(document) if isinstance(document, dict) else {}
    if _RETAIN in patch:
        _retain(merged, patch)
    for key, value in patch.items():
        if key.startswith(_DELETE):
            _delete_values(merged, key[len(_DELETE) :], value)
    for key, value in patch.items():
        if key.startswith(_ORDER):
            _order_alone(merged, patch, key[len(_ORDER) :], shape)
        elif value is None:
            merged.pop(key, None)
        elif not key.startswith("$"):
            field, old = _field(shape, key), merged.get(key)
            is_list = isinstance(value, list)
            merged[key] = (
                _merge_list(old, value, field, patch.get(_ORDER + key)) if is_list else _merge_value(old, value, field)
            )
    return merged


def _order_alone(merged: dict[str, Any], patch: Mapping[str, Any], name: str, shape: Shape | None) -> None:
    """`$setElementOrder/x` that comes without x: only the order changes."""
    items = merged.get(name)
    if isinstance(items, list) and not isinstance(patch.get(name), list):
        merged[name] = _ordered(items, items, patch[_ORDER + name], _identity(_field(shape, name)))


def _retain(merged: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Only the keys that the patch lists stay, and it may set no others."""
    kept = patch[_RETAIN]
    if not isinstance(kept, list) or not all(isinstance(key, str) for key in kept):
        raise PatchError(_BAD_RETAIN)
    for key, value in patch.items():
        if key.startswith("$") or value is None:
            continue
        if key not in kept:
            raise PatchError(_BAD_RETAIN)
    for key in [key for key in merged if key not in kept]:
        del merged[key]


def _delete_values(merged: dict[str, Any], name: str, values: Any) -> None:
    if not isinstance(values, list):
        raise PatchError(_BAD_DELETE)
    if isinstance(merged.get(name), list):
        merged[name] = [entry for entry in merged[name] if entry not in values]


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


def _identity(field: Shape | None) -> Identity:
    """What makes two items of a list the same one: their merge key, else their value."""
    key = field.merge_key if field is not None else ""

    def of(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    return of


def _merge_list(old: Any, new: list[Any], field: Shape | None, order: Any) -> list[Any]:
    current: list[Any] = old if isinstance(old, list) else []
    if field is None or "merge" not in field.strategies:
        return [entry for entry in new if entry != {_PATCH: "replace"}]
    if any(isinstance(entry, dict) and entry.get(_PATCH) == "replace" for entry in new):
        return [_plain(entry, field) for entry in new if not (isinstance(entry, dict) and _PATCH in entry)]
    identity = _identity(field)
    if order is not None:
        _must_agree(new, order, identity)
    if field.merge_key:
        merged = _merge_items(current, new, field)
    else:
        merged = [*current, *(entry for entry in new if entry not in current)]
        merged = [entry for at, entry in enumerate(merged) if entry not in merged[:at]]
    return merged if order is None else _ordered(merged, current, order, identity)


def _plain(entry: Any, field: Shape) -> Any:
    return strategic_patch({}, entry, field.items) if isinstance(entry, dict) else entry


def _merge_items(current: list[Any], new: list[Any], field: Shape) -> list[Any]:
    """Deletes first, then items into those with the same key, others at the end."""
    key = field.merge_key
    deleted, given = [], []
    for entry in new:
        if not isinstance(entry, dict) or key not in entry:
            raise PatchError(f"map: {shown(entry)} does not contain declared merge key: {key}")
        directive = entry.get(_PATCH)
        if directive == "delete":
            deleted.append(entry[key])
        elif directive == "merge":
            raise PatchError("merging lists cannot yet be specified in the patch")
        elif directive is not None:
            raise PatchError(f"unknown patch type found: {directive}")
        else:
            given.append(entry)
    merged = [item for item in current if not (isinstance(item, dict) and item.get(key) in deleted)]
    for entry in given:
        for at, item in enumerate(merged):
            if isinstance(item, dict) and item.get(key) == entry[key]:
                merged[at] = strategic_patch(item, entry, field.items)
                break
        else:
            merged.append(strategic_patch({}, entry, field.items))
    return merged


def _must_agree(new: list[Any], order: Any, identity: Identity) -> None:
    """The items of a patch stand in the order that it asks for, and each is named in it."""
    if not isinstance(order, list):
        raise PatchError(_BAD_ORDER)
    wanted = iter([identity(entry) for entry in order])
    for entry in new:
        if isinstance(entry, dict) and entry.get(_PATCH) == "delete":
            continue
        if identity(entry) not in wanted:  # reads on from where the last one stood
            raise PatchError(
                f"The order in patch list:\n{shown(new)}\n doesn't match $setElementOrder list:\n{shown(order)}\n"
            )


def _ordered(items: list[Any], live: list[Any], order: Any, identity: Identity) -> list[Any]:
    """Named items in the order told; the others before the first named one that followed them in `live`."""
    if not isinstance(order, list):
        raise PatchError(_BAD_ORDER)
    wanted = [identity(entry) for entry in order]
    stood = [identity(entry) for entry in live]
    named = sorted((item for item in items if identity(item) in wanted), key=lambda item: wanted.index(identity(item)))
    others = [item for item in items if identity(item) not in wanted]
    result: list[Any] = []
    while named and others:
        mine, theirs = identity(others[0]), identity(named[0])
        before = mine in stood and theirs in stood and stood.index(mine) < stood.index(theirs)
        result.append((others if before else named).pop(0))
    return result + named + others


def shown(value: Any) -> str:
    """A value as Go prints it, which is how upstream's messages show it."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{shown(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(shown, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
