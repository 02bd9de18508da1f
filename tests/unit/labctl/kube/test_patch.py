"""The three patch types against the RFCs' own examples and Kubernetes' documented cases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from labctl.kube.patch import PatchError, PatchRejected, json_patch, merge_patch
from labctl.kube.schema import Shape
from labctl.kube.strategic import strategic_patch
from master.apiserver import schemas

JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=3),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def pod_spec() -> Shape:
    return schemas.load().shape("io.k8s.api.core.v1.PodSpec")


# RFC 6902, appendix A.
JSON_PATCHES: list[tuple[Any, Any, Any]] = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "qux"}], {"baz": "qux"}),
    (
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}], {"foo": "bar", "baz": "qux"}),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}], {"foo": ["bar", ["abc", "def"]]}),
]


@pytest.mark.parametrize(("document", "patch", "expected"), JSON_PATCHES)
def test_json_patch_does_what_the_rfc_shows(document: Any, patch: Any, expected: Any) -> None:
    assert json_patch(document, patch) == expected


@pytest.mark.parametrize(
    ("document", "patch"),
    [
        ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}]),
        ({"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}]),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}]),
        ({"foo": ["a"]}, [{"op": "add", "path": "/foo/2", "value": "b"}]),
        ({"foo": ["a"]}, [{"op": "remove", "path": "/foo/01"}]),
        ({}, [{"op": "remove", "path": "/foo"}]),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": True}]),
    ],
)
def test_json_patch_refuses_what_does_not_fit(document: Any, patch: Any) -> None:
    with pytest.raises(PatchRejected):
        json_patch(document, patch)


@pytest.mark.parametrize(
    "patch",
    [[{"op": "jump", "path": "/a"}], [{"op": "add", "path": "a", "value": 1}], [{"op": "add", "path": "/a"}], ["x"]],
)
def test_json_patch_names_malformed_operations(patch: Any) -> None:
    with pytest.raises(PatchError):
        json_patch({}, patch)


# RFC 7386, appendix A.
MERGE_PATCHES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("document", "patch", "expected"), MERGE_PATCHES)
def test_merge_patch_does_what_the_rfc_shows(document: Any, patch: Any, expected: Any) -> None:
    assert merge_patch(document, patch) == expected


@given(JSON, JSON)
def test_a_merge_patch_applied_twice_is_applied_once(document: Any, patch: Any) -> None:
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once


@given(some.dictionaries(some.text(max_size=3), JSON), some.dictionaries(some.text(max_size=3), JSON))
def test_patches_leave_their_inputs_alone(document: Any, patch: Any) -> None:
    before = repr((document, patch))
    merge_patch(document, patch)
    strategic_patch(document, patch, None) if not any(key.startswith("$") for key in patch) else None
    json_patch(document, [{"op": "add", "path": "/a", "value": patch}])
    assert repr((document, patch)) == before


def names(spec: dict[str, Any]) -> list[str]:
    return [entry["name"] for entry in spec["containers"]]


def test_strategic_merge_adds_and_changes_list_items_by_their_key(pod_spec: Shape) -> None:
    old = {"containers": [{"name": "a", "image": "1", "tty": True}]}
    patch = {"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "3"}]}
    assert strategic_patch(old, patch, pod_spec) == {
        "containers": [{"name": "a", "image": "3", "tty": True}, {"name": "b", "image": "2"}]
    }


def test_strategic_merge_deletes_and_replaces_by_directive(pod_spec: Shape) -> None:
    old = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}
    gone = {"containers": [{"name": "a", "$patch": "delete"}]}
    assert names(strategic_patch(old, gone, pod_spec)) == ["b"]
    fresh = {"containers": [{"name": "c", "image": "3"}, {"$patch": "replace"}]}
    assert names(strategic_patch(old, fresh, pod_spec)) == ["c"]


def test_strategic_merge_orders_list_items_as_told(pod_spec: Shape) -> None:
    old = {"containers": [{"name": name} for name in "abc"]}
    order = {
        "$setElementOrder/containers": [{"name": name} for name in ("c", "d", "a", "b")],
        "containers": [{"name": "d"}],
    }
    assert names(strategic_patch(old, order, pod_spec)) == ["c", "d", "a", "b"]


def test_strategic_merge_replaces_lists_without_a_key_and_merges_those_of_values(pod_spec: Shape) -> None:
    old = {"tolerations": [{"key": "a"}], "containers": [{"name": "a", "args": ["x", "y"]}]}
    patch = {"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["z"]}]}
    new = strategic_patch(old, patch, pod_spec)
    assert (new["tolerations"], new["containers"][0]["args"]) == ([{"key": "b"}], ["z"])
    meta = schemas.load().shape("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
    assert strategic_patch({"finalizers": ["a"]}, {"finalizers": ["b"]}, meta) == {"finalizers": ["a", "b"]}
    removed = {"$deleteFromPrimitiveList/finalizers": ["a"]}
    assert strategic_patch({"finalizers": ["a", "b"]}, removed, meta) == {"finalizers": ["b"]}


def test_strategic_merge_keeps_only_the_keys_of_retain_keys() -> None:
    shape = schemas.load().shape("io.k8s.api.apps.v1.DeploymentSpec")
    old = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    patch = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    assert strategic_patch(old, patch, shape) == {"strategy": {"type": "Recreate"}}


def test_strategic_merge_refuses_items_without_their_key(pod_spec: Shape) -> None:
    with pytest.raises(PatchError):
        strategic_patch({"containers": []}, {"containers": [{"image": "x"}]}, pod_spec)
    with pytest.raises(PatchError):
        strategic_patch({}, {"$patch": "explode"}, pod_spec)
