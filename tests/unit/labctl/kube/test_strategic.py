"""Strategic merge patch: Kubernetes' documented cases, every merge key there is, and patches made of a difference."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from labctl.kube.patch import PatchError, merge_patch
from labctl.kube.schema import Shape
from labctl.kube.strategic import shown, strategic_patch
from master.apiserver import schemas

Document = dict[str, Any]

SCHEMAS = schemas.load()
POD = SCHEMAS.shape("io.k8s.api.core.v1.PodSpec")
META = SCHEMAS.shape("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
DEPLOYMENT = SCHEMAS.shape("io.k8s.api.apps.v1.DeploymentSpec")


def containers(*names: str, **more: Any) -> list[Document]:
    return [{"name": name, **more} for name in names]


def names(spec: Document) -> str:
    return "".join(entry["name"] for entry in spec["containers"])


# --- documented cases -----------------------------------------------------------------------------------------------


def test_items_are_added_and_changed_by_their_key() -> None:
    old = {"containers": [{"name": "a", "image": "1", "tty": True}]}
    patch = {"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "3"}]}
    assert strategic_patch(old, patch, POD) == {
        "containers": [{"name": "a", "image": "3", "tty": True}, {"name": "b", "image": "2"}]
    }


def test_lists_without_a_key_are_replaced_and_those_of_values_merge() -> None:
    old = {"tolerations": [{"key": "a"}], "containers": [{"name": "a", "args": ["x", "y"]}]}
    patch = {"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["z"]}]}
    new = strategic_patch(old, patch, POD)
    assert (new["tolerations"], new["containers"][0]["args"]) == ([{"key": "b"}], ["z"])
    assert strategic_patch({"finalizers": ["a"]}, {"finalizers": ["b", "a"]}, META) == {"finalizers": ["a", "b"]}


def test_items_are_deleted_by_directive() -> None:
    old = {"containers": containers("a", "b")}
    assert names(strategic_patch(old, {"containers": [{"name": "a", "$patch": "delete"}]}, POD)) == "b"
    assert names(strategic_patch(old, {"containers": [{"name": "x", "$patch": "delete"}]}, POD)) == "ab"
    again = {"containers": [{"name": "a", "tty": True}, {"name": "a", "$patch": "delete"}]}
    assert strategic_patch(old, again, POD)["containers"] == [{"name": "b"}, {"name": "a", "tty": True}]


def test_a_list_or_an_object_is_replaced_by_directive() -> None:
    old = {"containers": containers("a", "b"), "securityContext": {"runAsUser": 1, "runAsGroup": 2}}
    fresh = {"containers": [{"name": "c", "image": "3"}, {"$patch": "replace"}]}
    assert strategic_patch(old, fresh, POD)["containers"] == [{"name": "c", "image": "3"}]
    assert strategic_patch(old, {"containers": [{"$patch": "replace"}]}, POD)["containers"] == []
    other = {"securityContext": {"$patch": "replace", "runAsUser": 5}}
    assert strategic_patch(old, other, POD)["securityContext"] == {"runAsUser": 5}
    merged = {"securityContext": {"$patch": "merge", "runAsUser": 5}}
    assert strategic_patch(old, merged, POD)["securityContext"] == {"runAsUser": 5, "runAsGroup": 2}
    assert strategic_patch(old, {"securityContext": {"$patch": "delete"}}, POD)["securityContext"] == {}


def test_null_removes_a_field_and_an_empty_list_changes_nothing() -> None:
    old = {"hostname": "h", "containers": containers("a")}
    assert strategic_patch(old, {"hostname": None, "subdomain": None, "containers": []}, POD) == {
        "containers": containers("a")
    }


def test_only_retained_keys_stay() -> None:
    old = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    patch = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    assert strategic_patch(old, patch, DEPLOYMENT) == {"strategy": {"type": "Recreate"}}
    volume = {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/p"}}]}
    before = {"volumes": [{"name": "v", "emptyDir": {}}]}
    assert strategic_patch(before, volume, POD) == {"volumes": [{"name": "v", "hostPath": {"path": "/p"}}]}


@pytest.mark.parametrize(
    ("live", "order", "given", "expected"),
    [
        ("abc", "cdab", "d", "cdab"),
        ("abc", "cab", "", "cab"),
        ("abc", "ca", "", "bca"),  # b stood before c, so it comes before c
        ("sab", "ab", "", "sab"),
        ("asb", "ba", "", "sba"),
        ("abs", "ba", "", "bas"),
        ("", "ab", "ab", "ab"),
        ("xy", "ab", "ab", "abxy"),
    ],
)
def test_items_stand_in_the_order_told_and_others_where_they_stood_before(
    live: str, order: str, given: str, expected: str
) -> None:
    patch: Document = {"$setElementOrder/containers": containers(*order)}
    if given:
        patch["containers"] = containers(*given)
    assert names(strategic_patch({"containers": containers(*live)}, patch, POD)) == expected


def test_values_are_ordered_and_deleted_too() -> None:
    patch = {
        "$setElementOrder/finalizers": ["c", "b"],
        "$deleteFromPrimitiveList/finalizers": ["a"],
        "finalizers": ["c"],
    }
    assert strategic_patch({"finalizers": ["a", "b", "s"]}, patch, META) == {"finalizers": ["c", "b", "s"]}
    assert strategic_patch({}, {"$deleteFromPrimitiveList/finalizers": ["a"]}, META) == {}


@pytest.mark.parametrize(
    ("shape", "patch", "told"),
    [
        (POD, {"containers": [{"image": "x"}]}, "map[image:x] does not contain declared merge key: name"),
        (POD, {"containers": [{"$patch": "delete"}]}, "does not contain declared merge key: name"),
        (POD, {"containers": ["x"]}, "does not contain declared merge key: name"),
        (POD, {"containers": [{"name": "a", "$patch": "explode"}]}, "unknown patch type found: explode"),
        (POD, {"containers": [{"name": "a", "$patch": "merge"}]}, "merging lists cannot yet be specified"),
        (POD, {"$patch": "explode"}, "unknown patch type found: explode"),
        (POD, {"$patch": ["replace"]}, "unknown patch type found: "),
        (POD, {"$setElementOrder/containers": "a", "containers": containers("a")}, "setElementOrder"),
        (
            POD,
            {"$setElementOrder/containers": containers("a", "b"), "containers": containers("b", "a")},
            "The order in",
        ),
        (POD, {"$setElementOrder/containers": containers("a"), "containers": containers("b")}, "The order in patch"),
        (META, {"$deleteFromPrimitiveList/finalizers": "a"}, "primitive list"),
        (DEPLOYMENT, {"strategy": {"$retainKeys": "type"}}, "retainKeys"),
        (DEPLOYMENT, {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}, "retainKeys"),
    ],
)
def test_patches_that_make_no_sense_are_told_apart(shape: Shape, patch: Document, told: str) -> None:
    old = {"containers": containers("a"), "finalizers": ["a"], "strategy": {"type": "RollingUpdate"}}
    with pytest.raises(PatchError) as refused:
        strategic_patch(old, patch, shape)
    assert told in str(refused.value)


def test_values_are_shown_as_go_shows_them() -> None:
    assert shown({"b": [1, True, None], "a": {"x": "y"}}) == "map[a:map[x:y] b:[1 true <nil>]]"


# --- every list that merges -----------------------------------------------------------------------------------------


def merging() -> list[tuple[str, str, str]]:
    """(definition, field, merge key or nothing) of every list in the schemas that merges."""
    return [
        (name, field, shape.merge_key)
        for name in SCHEMAS.names()
        for field, shape in SCHEMAS.shape(name).properties.items()
        if shape.kind == "array" and "merge" in shape.strategies
    ]


def test_the_lists_that_merge_are_all_there() -> None:
    found = merging()
    assert ("io.k8s.api.core.v1.ServiceSpec", "ports", "port") in found
    assert ("io.k8s.api.core.v1.PodStatus", "podIPs", "ip") in found
    assert ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers", "") in found
    assert len(found) > 60


@pytest.mark.parametrize(("name", "field", "key"), merging())
def test_every_list_that_merges_does_so_by_its_own_key(name: str, field: str, key: str) -> None:
    shape = SCHEMAS.shape(name)
    if not key:
        patch: Document = {field: ["3"], f"$deleteFromPrimitiveList/{field}": ["1"]}
        assert strategic_patch({field: ["1", "2"]}, patch, shape) == {field: ["2", "3"]}
        return
    patch = {field: [{key: "1", "$patch": "delete"}, {key: "2", "new": 1}, {key: "3"}]}
    patched = strategic_patch({field: [{key: "1"}, {key: "2", "old": 1}]}, patch, shape)
    assert patched == {field: [{key: "2", "old": 1, "new": 1}, {key: "3"}]}


# --- a patch made of a difference gives the target ------------------------------------------------------------------


def difference(old: Document, new: Document, shape: Shape | None) -> Document:
    """A two-way patch as kubectl makes it, by the published rules."""
    patch: Document = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if key in old and before == value:
            continue
        field = None if shape is None else shape.properties.get(key) or shape.target.values
        if isinstance(value, dict) and isinstance(before, dict):
            patch[key] = difference(before, value, field)
            if field is not None and "retainKeys" in field.strategies:
                patch[key]["$retainKeys"] = sorted(value)
        elif isinstance(value, list) and isinstance(before, list) and field is not None and "merge" in field.strategies:
            _lists(patch, key, (before, value), field)
        else:
            patch[key] = value
    return patch


def _lists(patch: Document, name: str, lists: tuple[list[Any], list[Any]], field: Shape) -> None:
    old, new = lists
    key = field.merge_key
    if not key:
        patch[f"$deleteFromPrimitiveList/{name}"] = [item for item in old if item not in new]
        patch[f"$setElementOrder/{name}"] = new
        patch[name] = [item for item in new if item not in old]
        return
    before = {item[key]: item for item in old}
    after = {item[key]: item for item in new}
    changed = [
        {**difference(before[at], item, field.items), key: at} if at in before else item
        for at, item in after.items()
        if before.get(at) != item
    ]
    if field.items is not None and "retainKeys" in field.strategies:
        changed = [
            {**item, "$retainKeys": sorted(after[item[key]])} if item[key] in before else item for item in changed
        ]
    gone = [{key: at, "$patch": "delete"} for at in before if at not in after]
    patch[f"$setElementOrder/{name}"] = [{key: at} for at in after]
    patch[name] = changed + gone


LETTERS: some.SearchStrategy[Any] = some.sampled_from("abcd")
PORTS: some.SearchStrategy[Any] = some.lists(
    some.fixed_dictionaries({"containerPort": some.integers(1, 4)}, optional={"name": LETTERS, "protocol": LETTERS}),
    max_size=3,
    unique_by=lambda port: port["containerPort"],
)
CONTAINER: some.SearchStrategy[Any] = some.fixed_dictionaries(
    {"name": LETTERS},
    optional={
        "image": LETTERS,
        "args": some.lists(LETTERS, max_size=2),
        "ports": PORTS,
        "resources": some.fixed_dictionaries({}, optional={"limits": some.dictionaries(LETTERS, LETTERS, max_size=2)}),
    },
)
VOLUME: some.SearchStrategy[Any] = some.fixed_dictionaries(
    {"name": LETTERS}, optional={"emptyDir": some.just({}), "hostPath": some.just({"path": "/"})}
)
SPEC: some.SearchStrategy[Any] = some.fixed_dictionaries(
    {},
    optional={
        "containers": some.lists(CONTAINER, max_size=4, unique_by=lambda item: item["name"]),
        "volumes": some.lists(VOLUME, max_size=3, unique_by=lambda item: item["name"]),
        "tolerations": some.lists(some.fixed_dictionaries({"key": LETTERS}), max_size=2),
        "nodeSelector": some.dictionaries(LETTERS, LETTERS, max_size=3),
        "hostname": LETTERS,
    },
)
FINALIZERS = some.fixed_dictionaries({"finalizers": some.lists(LETTERS, max_size=4, unique=True)})


@given(SPEC, SPEC)
def test_a_patch_made_of_a_difference_gives_the_target(old: Document, new: Document) -> None:
    before = copy.deepcopy((old, new))
    assert strategic_patch(old, difference(old, new, POD), POD) == new
    assert (old, new) == before


@given(FINALIZERS, FINALIZERS)
def test_so_does_one_of_values(old: Document, new: Document) -> None:
    assert strategic_patch(old, difference(old, new, META), META) == new


@given(SPEC, SPEC, SPEC)
def test_what_others_changed_meanwhile_stays(base: Document, mine: Document, theirs: Document) -> None:
    """Two patches of different fields give the same in either order."""
    one = {key: mine[key] for key in ("containers", "hostname") if key in mine}
    two = {key: theirs[key] for key in ("volumes", "nodeSelector") if key in theirs}
    first = strategic_patch(strategic_patch(base, one, POD), two, POD)
    assert first == strategic_patch(strategic_patch(base, two, POD), one, POD)


@given(SPEC, SPEC)
def test_without_a_schema_it_is_a_merge_patch(old: Document, new: Document) -> None:
    assert strategic_patch(old, new, None) == merge_patch(old, new)
