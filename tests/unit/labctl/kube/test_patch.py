"""JSON patch and merge patch against the RFCs' own examples, the published test suite's cases, and plain references."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from labctl.kube.patch import PatchError, PatchRejected, json_patch, merge_patch, same

JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=3),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


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

# What json-patch-tests (github.com/json-patch/json-patch-tests) asks of an implementation.
SUITE: list[tuple[Any, Any, Any]] = [
    ({}, [], {}),
    ({"foo": 1}, [], {"foo": 1}),
    ([], [{"op": "add", "path": "/0", "value": "foo"}], ["foo"]),
    ({}, [{"op": "add", "path": "", "value": []}], []),
    ([], [{"op": "add", "path": "", "value": {}}], {}),
    ({"foo": "bar"}, [{"op": "add", "path": "", "value": {"baz": "qux"}}], {"baz": "qux"}),
    ({}, [{"op": "add", "path": "/", "value": 1}], {"": 1}),
    ({"foo": {}}, [{"op": "add", "path": "/foo/", "value": 1}], {"foo": {"": 1}}),
    ({"foo": 1}, [{"op": "add", "path": "/bar", "value": [1, 2]}], {"foo": 1, "bar": [1, 2]}),
    ({"foo": 1}, [{"op": "add", "path": "/bar", "value": None}], {"foo": 1, "bar": None}),
    ({"foo": 1}, [{"op": "add", "path": "/0", "value": "bar"}], {"foo": 1, "0": "bar"}),
    ({"foo": None}, [{"op": "add", "path": "/foo", "value": 1}], {"foo": 1}),
    (["foo", "sil"], [{"op": "add", "path": "/1", "value": ["bar", "baz"]}], ["foo", ["bar", "baz"], "sil"]),
    (["foo"], [{"op": "add", "path": "/1", "value": "bar"}], ["foo", "bar"]),
    ([1, 2, [3, [4, 5]]], [{"op": "add", "path": "/2/1/-", "value": {"foo": 0}}], [1, 2, [3, [4, 5, {"foo": 0}]]]),
    ({"foo": 1, "bar": [1, 2]}, [{"op": "remove", "path": "/bar"}], {"foo": 1}),
    ({"foo": None}, [{"op": "remove", "path": "/foo"}], {}),
    ([1, 2, 3], [{"op": "remove", "path": "/1"}, {"op": "remove", "path": "/0"}], [3]),
    ({"baz": [{"qux": "a"}]}, [{"op": "replace", "path": "/baz/0/qux", "value": 1}], {"baz": [{"qux": 1}]}),
    (["a", "b"], [{"op": "replace", "path": "/0", "value": False}], [False, "b"]),
    ({"foo": "bar"}, [{"op": "replace", "path": "", "value": {"baz": "qux"}}], {"baz": "qux"}),
    ({"foo": None}, [{"op": "replace", "path": "/foo", "value": "x"}], {"foo": "x"}),
    ({"foo": None}, [{"op": "move", "from": "/foo", "path": "/bar"}], {"bar": None}),
    ({"foo": None}, [{"op": "copy", "from": "/foo", "path": "/bar"}], {"foo": None, "bar": None}),
    ({"foo": 1}, [{"op": "move", "from": "/foo", "path": "/foo"}], {"foo": 1}),
    ({"a": [{"b": 1}]}, [{"op": "copy", "from": "/a/0", "path": "/c"}], {"a": [{"b": 1}], "c": {"b": 1}}),
    ({"foo": None}, [{"op": "test", "path": "/foo", "value": None}], {"foo": None}),
    ({"foo": {"a": 1, "b": 2}}, [{"op": "test", "path": "/foo", "value": {"b": 2, "a": 1}}], {"foo": {"a": 1, "b": 2}}),
    ({"foo": "bar"}, [{"op": "test", "path": "", "value": {"foo": "bar"}}], {"foo": "bar"}),
    ({"": 1}, [{"op": "test", "path": "/", "value": 1}], {"": 1}),
    ({"a/b": 1, "m~n": 2}, [{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/m~0n"}], {}),
    ({"c%d": 2, 'k"l': 6, " ": 7}, [{"op": "test", "path": '/k"l', "value": 6}], {"c%d": 2, 'k"l': 6, " ": 7}),
    ({"foo": 1}, [{"op": "add", "path": "/b", "value": True}, {"op": "replace", "path": "/foo", "value": 2}],
     {"foo": 2, "b": True}),
]  # fmt: skip

# Where the RFC says "error" or nothing, and upstream's library says something else.
UPSTREAMS: list[tuple[Any, Any, Any]] = [
    ([1, 2, 3], [{"op": "remove", "path": "/-1"}], [1, 2]),
    ([1, 2, 3], [{"op": "replace", "path": "/-3", "value": 0}], [0, 2, 3]),
    ({"a": 1}, [{"op": "test", "path": "/gone", "value": None}], {"a": 1}),
]


@pytest.mark.parametrize(("document", "patch", "expected"), [*JSON_PATCHES, *SUITE, *UPSTREAMS])
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
        ({"bar": [1, 2]}, [{"op": "add", "path": "/bar/8", "value": "5"}]),
        ({"bar": [1, 2]}, [{"op": "add", "path": "/bar/-8", "value": "5"}]),
        (["foo"], [{"op": "add", "path": "/bar", "value": 42}]),
        (["foo"], [{"op": "test", "path": "/1e0", "value": "foo"}]),
        (["foo"], [{"op": "test", "path": "/00", "value": "foo"}]),
        (["foo"], [{"op": "replace", "path": "/-", "value": "x"}]),
        ({"foo": 1}, [{"op": "replace", "path": "/bar", "value": 2}]),
        ({"foo": 1}, [{"op": "move", "from": "/bar", "path": "/foo"}]),
        ({"foo": 1}, [{"op": "copy", "from": "/bar", "path": "/foo"}]),
        ({"foo": {"bar": 1}}, [{"op": "move", "from": "/foo", "path": "/foo/bar"}]),
        ({"foo": "text"}, [{"op": "add", "path": "/foo/0", "value": 1}]),
        ({"foo": 1}, [{"op": "test", "path": "/bar/baz", "value": None}]),
        ({"foo": 1}, [{"op": "remove", "path": ""}]),
    ],
)
def test_json_patch_refuses_what_does_not_fit(document: Any, patch: Any) -> None:
    with pytest.raises(PatchRejected):
        json_patch(document, patch)


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "jump", "path": "/a"}],
        [{"path": "/a"}],
        [{"op": ["add"], "path": "/a", "value": 1}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a"}],
        [{"op": "replace", "path": "/a"}],
        [{"op": "test", "path": "/a"}],
        [{"op": "add", "value": 1}],
        [{"op": "add", "path": 1, "value": 1}],
        [{"op": "copy", "path": "/a"}],
        [{"op": "move", "path": "/a", "from": None}],
        ["x"],
    ],
)
def test_json_patch_names_malformed_operations(patch: Any) -> None:
    with pytest.raises(PatchError):
        json_patch({}, patch)


# RFC 7396, appendix A.
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


def reference_merge(target: Any, patch: Any) -> Any:
    """The RFC's own pseudocode, word by word."""
    if not isinstance(patch, dict):
        return patch
    target = target if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            if name in target:
                del target[name]
        else:
            target[name] = reference_merge(target.get(name), value)
    return target


@given(JSON, JSON)
def test_merge_patch_does_what_the_rfcs_pseudocode_does(document: Any, patch: Any) -> None:
    assert merge_patch(document, patch) == reference_merge(copy.deepcopy(document), patch)


def merge_difference(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    gone = {key: None for key in old if key not in new}
    return gone | {
        key: merge_difference(old.get(key), value) for key, value in new.items() if key not in old or old[key] != value
    }


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_null(inner) for key, inner in value.items() if inner is not None}
    return value


@given(some.dictionaries(some.text(max_size=2), JSON), some.dictionaries(some.text(max_size=2), JSON))
def test_a_merge_patch_made_of_a_difference_gives_the_target(old: Any, new: Any) -> None:
    new = without_null(new)
    assert same(merge_patch(without_null(old), merge_difference(without_null(old), new)), new)


PATHS = some.lists(some.sampled_from(["a", "b", "0", "1", "-"]), max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
SMALL = some.recursive(
    some.integers(0, 3),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
OPERATIONS = some.lists(
    some.fixed_dictionaries(
        {
            "op": some.sampled_from(["add", "remove", "replace", "test", "move", "copy"]),
            "path": PATHS,
            "from": PATHS,
            "value": SMALL,
        }
    ),
    max_size=4,
)


class Refused(Exception):
    pass


class Reference:
    """RFC 6902 the obvious way: on a copy, in place."""

    def __init__(self, document: Any) -> None:
        self.root = {"root": copy.deepcopy(document)}

    def run(self, operations: Any) -> Any:
        for operation in operations:
            getattr(self, operation["op"])(operation)
        return self.root["root"]

    def at(self, path: str) -> tuple[Any, Any]:
        """(holder, key), the holder being there."""
        holder: Any = self.root
        parts = ["root", *path.split("/")[1:]]
        for part in parts[:-1]:
            holder = self.value(holder, part)
        return holder, parts[-1]

    @staticmethod
    def value(holder: Any, key: str) -> Any:
        if isinstance(holder, dict) and key in holder:
            return holder[key]
        if isinstance(holder, list) and key.isdigit() and int(key) < len(holder):
            return holder[int(key)]
        raise Refused

    def add(self, operation: Any) -> None:
        holder, key = self.at(operation["path"])
        if isinstance(holder, dict):
            holder[key] = copy.deepcopy(operation["value"])
        elif isinstance(holder, list) and (key == "-" or (key.isdigit() and int(key) <= len(holder))):
            holder.insert(len(holder) if key == "-" else int(key), copy.deepcopy(operation["value"]))
        else:
            raise Refused

    def remove(self, operation: Any) -> None:
        holder, key = self.at(operation["path"])
        self.value(holder, key)
        if holder is self.root:
            raise Refused
        del holder[int(key) if isinstance(holder, list) else key]

    def replace(self, operation: Any) -> None:
        holder, key = self.at(operation["path"])
        self.value(holder, key)
        holder[int(key) if isinstance(holder, list) else key] = copy.deepcopy(operation["value"])

    def test(self, operation: Any) -> None:
        if self.value(*self.at(operation["path"])) != operation["value"]:
            raise Refused

    def move(self, operation: Any) -> None:
        value = self.value(*self.at(operation["from"]))
        if operation["path"] != operation["from"]:
            if operation["path"].startswith(operation["from"] + "/") or operation["from"] == "":
                raise Refused
            self.remove({"path": operation["from"]})
            self.add({"path": operation["path"], "value": value})

    def copy(self, operation: Any) -> None:
        self.add({"path": operation["path"], "value": self.value(*self.at(operation["from"]))})


@given(SMALL, OPERATIONS)
def test_json_patch_does_what_a_plain_interpreter_does(document: Any, operations: Any) -> None:
    try:
        expected = Reference(document).run(operations)
    except Refused:
        with pytest.raises(PatchRejected):
            json_patch(document, operations)
    else:
        if any(op["op"] == "move" and op["path"] == op["from"] == "" for op in operations):
            return
        assert json_patch(document, operations) == expected


def test_copies_of_copies_end_at_a_limit() -> None:
    double = [{"op": "copy", "from": "/a", "path": "/a/b"}, {"op": "copy", "from": "/a", "path": "/a/c"}]
    with pytest.raises(PatchRejected, match="accumulated size increase of copy"):
        json_patch({"a": {"x": "y" * 1000}}, double * 20)


@given(some.dictionaries(some.text(max_size=3), JSON), some.dictionaries(some.text(max_size=3), JSON))
def test_patches_leave_their_inputs_alone(document: Any, patch: Any) -> None:
    before = repr((document, patch))
    merge_patch(document, patch)
    json_patch(document, [{"op": "add", "path": "/a", "value": patch}])
    assert repr((document, patch)) == before
