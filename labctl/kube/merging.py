"""Merging what somebody applies into an object, and taking out what they no longer apply. Pure functions.

No function changes its inputs; parts that did not change are shared.
Source: structured-merge-diff `typed` (merge, remove), `merge/update.go` (prune).
"""

from __future__ import annotations

from typing import Any

from labctl.kube.fieldset import SELF, Fields, shown
from labctl.kube.typed import KEYED, LEAF, MAP, SET, STRUCT, Rule, element, granular, index


def merge(live: Any, config: Any, rule: Rule) -> Any:
    """`live` with what `config` says; list items keep their order, shared ones follow the order of `config`."""
    kind = granular(config, rule)
    if kind == LEAF:
        # An empty object or list says nothing about what is in it, where it is granular.
        return live if live and not config and config is not None and granular(live, rule) != LEAF else config
    if not isinstance(live, type(config)):
        live = type(config)()
    if kind in {STRUCT, MAP}:
        merged = dict(live)
        for key, value in config.items():
            merged[key] = merge(live.get(key), value, rule.child(key))
        return merged
    return _merge_lists(_named(live, rule), index(config, rule), rule)


def _merge_lists(standing: list[tuple[str, Any]], config: dict[str, Any], rule: Rule) -> list[Any]:
    merged: list[Any] = []
    wanted = list(config)
    live = dict(reversed(standing))
    shared = [name for name in wanted if name in live]
    at = next_at = 0
    while at < len(standing) or next_at < len(wanted):
        mine, item = standing[at] if at < len(standing) else (None, None)
        if mine is not None and mine not in config:
            merged.append(item)  # nobody speaks of it here: it keeps its place
            at += 1
        elif mine is not None and next_at < len(wanted) and shared and mine != shared[0]:
            at += 1  # comes later, where the configuration wants it
        elif next_at < len(wanted):
            name = wanted[next_at]
            merged.append(merge(live.get(name), config[name], rule.item))
            next_at += 1
            if shared and shared[0] == name:
                shared.pop(0)
            if mine == name:
                at += 1
        else:
            at += 1
    return merged


def prune(node: Any, last: Fields, keep: Fields, rule: Rule) -> Any:
    """`node` without what its applier owned (`last`) and nobody claims now (`keep`)."""
    kind = granular(node, rule)
    if kind == LEAF or not last:
        return node
    if kind in {KEYED, SET}:
        items = [
            _pruned(item, (last.get(name), keep.get(name)), rule.item, named=False) for name, item in _named(node, rule)
        ]
        return [item for item in items if item is not _GONE]
    kept: dict[str, Any] = {}
    for key, value in node.items():
        name = f"f:{key}"
        left = _pruned(value, (last.get(name), keep.get(name)), rule.child(key), named=kind == STRUCT)
        if left is not _GONE:
            kept[key] = left
    return kept


_GONE = object()


def _pruned(value: Any, sets: tuple[Fields | None, Fields | None], rule: Rule, *, named: bool) -> Any:
    """One field or item: `_GONE` where it falls. A struct's field stands while anything below it is claimed."""
    last, keep = sets
    if last is None:
        return value
    owned_whole = named or not last or SELF in last
    claimed = keep is not None and (named or not keep or SELF in keep)
    if not claimed and (owned_whole or granular(value, rule) == LEAF):
        return _GONE
    left = prune(value, last, keep or {}, rule)
    return _GONE if value and not left and left is not value and left in ({}, []) else left


def flaws(config: Any, rule: Rule, path: str = "") -> list[str]:
    """What makes a configuration impossible to apply: items without keys, items that come twice."""
    kind = granular(config, rule)
    if kind == LEAF:
        return []
    if kind in {STRUCT, MAP}:
        return [flaw for key, value in config.items() for flaw in flaws(value, rule.child(key), f"{path}.{key}")]
    found: list[str] = []
    seen: set[str] = set()
    for at, item in enumerate(config):
        try:
            name = element(item, rule)
        except ValueError as error:
            found.append(f"{path}: element {at}: {error}")
            continue
        if name in seen:
            found.append(f"{path}: duplicate entries for key {shown(name)}")
        seen.add(name)
        found += flaws(item, rule.item, path + shown(name))
    return found


def _named(items: list[Any], rule: Rule) -> list[tuple[str, Any]]:
    """Items with their path elements, repeated ones too; one without keys, as a live object may have, by its place."""
    found = []
    for at, item in enumerate(items):
        try:
            found.append((element(item, rule), item))
        except ValueError:
            found.append((f"i:{at}", item))
    return found
