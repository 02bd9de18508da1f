"""Field sets held to the simplest thing that can be right: Python's sets of paths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from labctl.kube.fieldset import SELF, Fields, difference, intersection, is_member, parse, paths, shown, union, without

Path = tuple[str, ...]

ELEMENTS = some.sampled_from(["f:a", "f:b", "f:c", 'k:{"name":"x"}', 'v:"y"'])
PATHS = some.frozensets(some.lists(ELEMENTS, min_size=1, max_size=4).map(tuple), max_size=8)


def tree(members: frozenset[Path]) -> Fields:
    """Build the wire form, member by member."""
    root: Fields = {}
    for path in members:
        node = root
        for element in path:
            node = node.setdefault(element, {})
    return marked(root, members, ())


def is_prefix(short: Path, long: Path) -> bool:
    return len(short) < len(long) and long[: len(short)] == short


def marked(node: Fields, members: frozenset[Path], at: Path) -> Fields:
    made = {key: marked(inner, members, (*at, key)) for key, inner in node.items()}
    return {SELF: {}, **made} if made and at in members else made


def members(fields: Fields, at: Path = ()) -> frozenset[Path]:
    found = {at} if at and is_member(fields) else set()
    for element, node in fields.items():
        if element != SELF:
            found |= members(node, (*at, element))
    return frozenset(found)


@given(PATHS)
def test_the_wire_form_says_all_of_a_set(some_paths: frozenset[Path]) -> None:
    assert members(tree(some_paths)) == some_paths


@given(PATHS, PATHS)
def test_union_has_the_members_of_both(left: frozenset[Path], right: frozenset[Path]) -> None:
    assert union(tree(left), tree(right)) == tree(left | right)


@given(PATHS, PATHS)
def test_difference_takes_away_members_and_nothing_else(left: frozenset[Path], right: frozenset[Path]) -> None:
    assert difference(tree(left), tree(right)) == tree(left - right)


@given(PATHS, PATHS)
def test_intersection_keeps_what_is_in_both(left: frozenset[Path], right: frozenset[Path]) -> None:
    assert intersection(tree(left), tree(right)) == tree(left & right)


@given(PATHS, PATHS)
def test_without_takes_away_all_that_is_below_too(left: frozenset[Path], right: frozenset[Path]) -> None:
    kept = frozenset(path for path in left - right if not any(is_prefix(other, path) for other in right))
    assert without(tree(left), tree(right)) == tree(kept)


@given(PATHS, PATHS)
def test_no_operation_changes_what_it_is_given(left: frozenset[Path], right: frozenset[Path]) -> None:
    one, two = tree(left), tree(right)
    for work in (union, difference, intersection, without):
        work(one, two)
    assert (one, two) == (tree(left), tree(right))


@given(PATHS)
def test_every_member_is_listed_once(some_paths: frozenset[Path]) -> None:
    listed = list(paths(tree(some_paths)))
    assert len(listed) == len(some_paths)
    assert set(listed) == {"".join(map(shown, path)) for path in some_paths}


def test_paths_read_as_in_kubernetes_error_messages() -> None:
    fields = {
        "f:spec": {
            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}},
            "f:finalizers": {'v:"a/b"': {}},
            "f:items": {"i:3": {}},
        }
    }
    assert list(paths(fields)) == [
        '.spec.finalizers[="a/b"]',
        ".spec.items[3]",
        '.spec.ports[port=80,protocol="TCP"]',
        '.spec.ports[port=80,protocol="TCP"].port',
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        "f:a",
        {"a": {}},
        {"x:a": {}},
        {"f:a": 1},
        {"k:[]": {}},
        {"k:{": {}},
        {"v:": {}},
        {"i:x": {}},
        {"f:a": {"b": {}}},
    ],
)
def test_what_is_no_set_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(wrong)
