"""Who owns which fields of an object: `metadata.managedFields` as data, and what writes and applies do to it. Pure.

Sources: apimachinery `util/managedfields/internal` (managedfields.go, managedfieldsupdater.go, capmanagers.go,
skipnonapplied.go, lastappliedmanager.go, conflict.go), structured-merge-diff `merge/update.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from labctl.kube.fieldset import Fields, difference, intersection, parse, paths, union, without
from labctl.kube.merging import merge, prune
from labctl.kube.typed import Difference, Rule, compare, object_set, owned
from labctl.runtime.errors import LabError

Document = dict[str, Any]

APPLY, UPDATE = "Apply", "Update"
_MAX_UPDATERS = 10
_ANCIENT, _BEFORE_APPLY = "ancient-changes", "before-first-apply"
_KUBECTL = "kubectl"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_NAMED: Fields = {"f:metadata": {"f:name": {}}}  # who applies always says which object
_MAX_ANNOTATION_BYTES = 256 * 1024


class Manager(msgspec.Struct, frozen=True):
    """An owner. Of an applier the version does not count: it has one entry, whatever version it applied last."""

    name: str
    operation: str
    api_version: str = ""
    subresource: str = ""

    @property
    def shown(self) -> str:
        """As in a conflict."""
        text = msgspec.json.encode(self.name).decode()
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


class Entry(msgspec.Struct, frozen=True):
    """What an owner owns, in which version's words, since when."""

    fields: Fields
    api_version: str
    time: str = ""


Managers = dict[Manager, Entry]
DiffAt = Callable[[str], Difference | None]  # by API version; None: that version is no more


class Conflicts(LabError):
    """An apply would change fields that others own."""

    def __init__(self, found: list[tuple[Manager, str]]) -> None:
        self.found = found  # (owner, path)
        super().__init__(_told(found))


def _told(found: list[tuple[Manager, str]]) -> str:
    if len(found) == 1:
        return f"Apply failed with 1 conflict: conflict with {found[0][0].shown}: {found[0][1]}"
    lines = []
    for shown in sorted({manager.shown for manager, _ in found}):
        lines.append(f"conflicts with {shown}:")
        lines += [f"- {path}" for manager, path in found if manager.shown == shown]
    return f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)


def writer(name: str, operation: str, api_version: str, subresource: str) -> Manager:
    """The owner that a request writes as."""
    return Manager(name or "unknown", operation, api_version if operation == UPDATE else "", subresource)


def decode(entries: Any) -> Managers:
    """`metadata.managedFields`; ValueError where it makes no sense."""
    found: Managers = {}
    for at, entry in enumerate(entries or ()):
        operation = entry.get("operation")
        if operation not in {APPLY, UPDATE}:
            raise ValueError("operation must be `Apply` or `Update`")
        version = entry.get("apiVersion")
        if not version:
            raise ValueError("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise ValueError(f"missing or invalid fieldsType in managed fields entry {at}")
        manager = Manager(
            entry.get("manager", ""), operation, version if operation == UPDATE else "", entry.get("subresource", "")
        )
        found[manager] = Entry(entry.get("fieldsV1") or {}, version, entry.get("time") or "")
    return found


def given(entries: Any) -> Managers:
    """Like `decode`, for entries that a client sent: their sets are checked as well."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("managedFields is a list of entries")
    found = decode(entries)
    for entry in found.values():
        parse(entry.fields)
    return found


def encode(managers: Managers) -> list[Document]:
    """`metadata.managedFields`: appliers first, then by time."""
    order = sorted(
        managers.items(), key=lambda found: (found[0].operation, found[1].time, found[0].name, found[1].api_version)
    )
    return [_entry(manager, entry) for manager, entry in order]


def _entry(manager: Manager, entry: Entry) -> Document:
    found: Document = {"manager": manager.name, "operation": manager.operation, "apiVersion": entry.api_version}
    if entry.time:
        found["time"] = entry.time
    found |= {"fieldsType": "FieldsV1", "fieldsV1": entry.fields}
    return found | {"subresource": manager.subresource} if manager.subresource else found


def is_reset(entries: Any) -> bool:
    """Whether a client asks to forget all owners: an empty list, or one empty entry."""
    return isinstance(entries, list) and (not entries or entries == [{}])


def same_but_time(left: list[Document], right: list[Document]) -> bool:
    """Whether two lists differ in their times alone, and then perhaps in their order."""
    if len(left) != len(right):
        return False
    timeless = [{key: value for key, value in entry.items() if key != "time"} for entry in right]
    return all({key: value for key, value in entry.items() if key != "time"} in timeless for entry in left)


# --- other writes ---------------------------------------------------------------------------------------------------


def created(writes: Manager, document: Document, rule: Rule, now: str, skip: tuple[str, ...]) -> list[Document]:
    """The list of a new object: its creator owns every field it gave."""
    fields = object_set(document, rule, dotted=True, skip=skip)
    return [_entry(writes, Entry(fields, document["apiVersion"], now))] if fields else []


def track(managers: Managers, writes: Manager, version: str, now: str, differs: DiffAt) -> Managers:
    """The owners after an update: the writer owns what it changed; nobody owns what is gone."""
    kept = _left(managers, differs)
    mine = differs(version)
    if mine is not None and mine.changed:
        before = kept.get(writes)
        kept[writes] = Entry(union(before.fields, mine.changed) if before else mine.changed, version, now)
    return _capped(kept)


def _left(managers: Managers, differs: DiffAt, spared: Manager | None = None) -> Managers:
    kept: Managers = {}
    for manager, entry in managers.items():
        if manager == spared:
            kept[manager] = entry
            continue
        diff = differs(entry.api_version)
        if diff is None:
            continue
        fields = without(difference(entry.fields, diff.changed), diff.gone)
        if fields:
            kept[manager] = entry if fields is entry.fields else Entry(fields, entry.api_version, entry.time)
    return kept


def _capped(managers: Managers) -> Managers:
    """With at most ten updaters: the oldest of a version share an entry."""
    updaters = [manager for manager in managers if manager.operation == UPDATE]
    surplus = len(updaters) - _MAX_UPDATERS
    if surplus <= 0:
        return managers
    kept = dict(managers)
    first: dict[str, Manager] = {}
    for manager in sorted(updaters, key=lambda updater: (managers[updater].time, updater.name)):
        entry = managers[manager]
        bucket = Manager(_ANCIENT, UPDATE, entry.api_version)
        oldest = first.setdefault(entry.api_version, manager)
        if manager in {oldest, bucket}:
            continue
        if bucket not in kept:
            kept[bucket] = kept.pop(oldest)
        kept[bucket] = Entry(union(entry.fields, kept[bucket].fields), entry.api_version, entry.time)
        del kept[manager]
        surplus -= 1
        if surplus <= 0:
            break
    return kept


# --- apply ----------------------------------------------------------------------------------------------------------


class Applied(msgspec.Struct, frozen=True):
    """What an apply makes of an object."""

    document: Document
    managers: Managers


class Application(msgspec.Struct, frozen=True):
    """An apply request: who applies what, under which rules."""

    manager: Manager
    config: Document
    rule: Rule
    now: str
    force: bool = False


def apply(live: Document, managers: Managers, wanted: Application, differs_at: Callable[[Document], DiffAt]) -> Applied:
    """`live` with the configuration merged in, and its owners. Conflicts, unless forced.

    `differs_at(new)` says how a new document differs from `live` in each version.
    """
    if not managers and live.get("metadata", {}).get("uid"):
        version = live["apiVersion"]
        before = object_set(live, wanted.rule, dotted=True)
        managers = {Manager(_BEFORE_APPLY, UPDATE, version): Entry(before, version, wanted.now)}
    try:
        return _apply(live, managers, wanted, differs_at)
    except Conflicts as conflicts:
        if wanted.manager.name != _KUBECTL:
            raise
        # Whoever moves from client-side to server-side apply owns what it applied last.
        allowed = _last_applied(live, wanted.rule)
        left = [found for found in conflicts.found if found[1] not in allowed]
        if left or not allowed:
            raise Conflicts(left or conflicts.found) from None
    return _apply(live, managers, msgspec.structs.replace(wanted, force=True), differs_at)


def _apply(
    live: Document, managers: Managers, wanted: Application, differs_at: Callable[[Document], DiffAt]
) -> Applied:
    me, config, rule = wanted.manager, wanted.config, wanted.rule
    new: Document = {**live, **merge(live, config, rule)}
    before = managers.get(me)
    mine = Entry(object_set(config, rule), config["apiVersion"], wanted.now)
    managers = {**managers, me: mine}
    if before is not None and before.fields:
        keep: Fields = _NAMED
        for entry in managers.values():
            keep = union(keep, entry.fields)
        new = merge(prune(new, before.fields, keep, rule), config, rule)  # again: what it names as empty stays so
    differs = differs_at(new)
    conflicts = []
    for manager, entry in managers.items():
        if manager != me and (diff := differs(entry.api_version)) is not None:
            conflicts += [(manager, path) for path in paths(intersection(entry.fields, diff.changed))]
    if conflicts and not wanted.force:
        raise Conflicts(conflicts)
    kept = _left(managers, differs, spared=me)
    if not mine.fields:
        del kept[me]
    return Applied(new, kept)


def _last_applied(live: Document, rule: Rule) -> frozenset[str]:
    """Paths that client-side apply set and that still have the values it gave."""
    annotation = (live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    if not annotation:
        return frozenset()
    try:
        last = msgspec.json.decode(annotation)
    except msgspec.DecodeError:
        return frozenset()
    if not isinstance(last, dict) or last.get("apiVersion") != live.get("apiVersion"):
        return frozenset()
    diff = compare(last, live, rule)
    return frozenset(paths(without(difference(owned(last, rule, dotted=False), diff.changed), diff.gone)))


def sync_last_applied(live: Document, new: Document, config: Document, manager: str) -> None:
    """kubectl's server-side apply keeps the annotation of its client-side apply up to date, where there is one.

    Source: `lastappliedupdater.go`.
    """
    if manager != _KUBECTL or LAST_APPLIED not in (live.get("metadata", {}).get("annotations") or {}):
        return
    metadata = dict(config.get("metadata") or {})
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != LAST_APPLIED}
    text = msgspec.json.encode({**config, "metadata": {**metadata, "annotations": annotations}}, order="sorted")
    kept = dict(new["metadata"].get("annotations") or {})
    if len(text) < _MAX_ANNOTATION_BYTES:
        kept[LAST_APPLIED] = text.decode() + "\n"
    else:
        kept.pop(LAST_APPLIED, None)
    new["metadata"] = {**new["metadata"], "annotations": kept}
