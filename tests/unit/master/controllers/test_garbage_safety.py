"""Whatever the collector believes, it deletes nothing that has a living owner."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.kube.resources import NODES, PODS, REPLICA_SETS, Resource
from master.controllers import views
from master.controllers.catalog import garbage_collector
from master.controllers.protocol import ConfirmAbsent, Delete, Patch, Settings
from tests.unit.master.controllers.world import world

Document = dict[str, Any]
KINDS: tuple[Resource, ...] = (PODS, REPLICA_SETS, NODES)
VIEWS = {PODS: views.Owned, REPLICA_SETS: views.Owned, NODES: views.Owned}


def places() -> list[tuple[Resource, str, str]]:
    """Where objects may be: kind, namespace and name; a name may be taken again by another object."""
    spread = [(PODS, "default"), (REPLICA_SETS, "default"), (REPLICA_SETS, "other"), (NODES, "")]
    return [(kind, namespace, f"n{number}") for kind, namespace in spread for number in range(2)]


@st.composite
def objects(draw: st.DrawFn, version: str) -> dict[str, Document]:
    """Some objects by uid, with owners among all that may ever have been."""
    found: dict[str, Document] = {}
    for resource, namespace, name in places():
        life = draw(st.integers(0, 2))  # 0: nobody; else who of that name
        if not life:
            continue
        uid = f"{resource.plural}-{namespace}-{name}-{life}"
        meta: Document = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": version}
        owners = draw(st.lists(st.sampled_from(places()), max_size=2))
        meta["ownerReferences"] = [
            {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "name": owner,
                "uid": f"{kind.plural}-{where}-{owner}-{draw(st.integers(1, 2))}",
                "blockOwnerDeletion": draw(st.booleans()),
            }
            for kind, where, owner in owners
        ]
        if draw(st.booleans()):
            meta["deletionTimestamp"] = "2026-06-01T00:00:00Z"
            meta["finalizers"] = draw(st.sampled_from([["foregroundDeletion"], ["orphan"], ["mine"]]))
        found[uid] = {"resource": resource, "metadata": meta}
    return found


def living_owner(item: Document, truth: dict[str, Document]) -> bool:
    """Whether an owner in the item's own namespace, or in none, is there and does not wait for the item to go."""
    for owner in item["metadata"]["ownerReferences"]:
        real = truth.get(owner["uid"])
        if real is None:
            continue
        inside = real["metadata"]["namespace"] in ("", item["metadata"]["namespace"])
        waits = "foregroundDeletion" in real["metadata"].get("finalizers", ())
        if inside and not waits:
            return True
    return False


def is_there(check: ConfirmAbsent, truth: dict[str, Document]) -> bool:
    real = truth.get(check.uid)
    return real is not None and (real["metadata"]["namespace"], real["metadata"]["name"]) == (
        check.namespace,
        check.name,
    )


@settings(max_examples=100, deadline=None)
@given(objects("2"), objects("1"), st.lists(st.booleans(), min_size=12, max_size=12))
def test_no_object_with_a_living_owner_is_deleted(
    truth: dict[str, Document], past: dict[str, Document], known: list[bool]
) -> None:
    """The collector sees some objects as they are, some as they were, and some not at all."""
    for uid in truth.keys() & past.keys():  # nobody takes a deletion back
        if "deletionTimestamp" in (old := past[uid]["metadata"]):
            truth[uid]["metadata"] |= {key: old[key] for key in ("deletionTimestamp", "finalizers")}
    seen = dict(past)
    for uid, fresh in zip(sorted(truth), known, strict=False):
        if fresh:
            seen[uid] = truth[uid]
    by_kind = {
        kind: [{"metadata": one["metadata"]} for one in seen.values() if one["resource"] == kind] for kind in KINDS
    }
    decided = garbage_collector.plan(
        world(by_kind, settings=Settings(kinds=KINDS), kinds=VIEWS), garbage_collector.Memory()
    )
    for step in decided.steps:
        for action in step.actions:
            if isinstance(action, ConfirmAbsent) and is_there(action, truth):
                break  # the API knows better
            if isinstance(action, Patch | Delete) and not stands(action, truth):
                break
            if isinstance(action, Delete):
                assert not living_owner(truth[action.uid], truth)


def stands(action: Patch | Delete, truth: dict[str, Document]) -> bool:
    """Whether the API server would do it: this very object is there, in this very version where one is named."""
    wanted = action.body["metadata"] if isinstance(action, Patch) else {}
    uid = wanted.get("uid", "") if isinstance(action, Patch) else action.uid
    version = wanted.get("resourceVersion", "") if isinstance(action, Patch) else action.resource_version
    real = truth.get(uid)
    return real is not None and version in ("", real["metadata"]["resourceVersion"])
