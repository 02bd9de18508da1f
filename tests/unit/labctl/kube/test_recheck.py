"""Checking only what a patch changed finds and leaves exactly what checking all would."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as some

from labctl.kube.codec import DecodeError, clean
from labctl.kube.patch import PatchError, merge_patch
from labctl.kube.strategic import strategic_patch
from master.apiserver import schemas

POD = schemas.load().shape("io.k8s.api.core.v1.Pod")

VALUES: some.SearchStrategy[Any] = some.sampled_from([None, "x", 1, 1.0, 0.5, True, "1Gi", "0.5", {}, [], {"a": None}])
CONTAINER: some.SearchStrategy[Any] = some.dictionaries(
    some.sampled_from(["name", "image", "tty", "imagee", "resources", "args", "ports"]), VALUES, max_size=3
) | some.fixed_dictionaries(
    {"name": some.sampled_from("ab")},
    optional={
        "resources": some.fixed_dictionaries(
            {"limits": some.dictionaries(some.sampled_from("xy"), VALUES, max_size=2)}
        ),
        "ports": some.lists(some.fixed_dictionaries({"containerPort": VALUES}), max_size=2),
    },
)
OBJECTS: some.SearchStrategy[Any] = some.fixed_dictionaries(
    {},
    optional={
        "spec": some.fixed_dictionaries(
            {},
            optional={
                "containers": some.lists(CONTAINER, max_size=2),
                "nodeSelector": some.dictionaries(some.sampled_from("xy"), VALUES, max_size=2),
                "tolerations": some.lists(some.dictionaries(some.sampled_from(["key", "odd"]), VALUES), max_size=2),
                "securityContext": some.dictionaries(some.sampled_from(["runAsUser", "odd"]), VALUES, max_size=2),
            },
        ),
        "metadata": some.fixed_dictionaries(
            {}, optional={"labels": some.dictionaries(some.sampled_from("xy"), VALUES, max_size=2)}
        ),
        "odd": VALUES,
    },
)


def cleaned(document: Any, known: Any = None) -> list[str] | None:
    """The unknown fields; None where something has the wrong type (which of several is told first is left open)."""
    try:
        return clean(document, POD, known)
    except DecodeError:
        return None


@given(OBJECTS, OBJECTS, some.sampled_from(["merge", "strategic"]))
def test_what_a_patch_leaves_needs_no_second_look(old: Any, patch: Any, how: str) -> None:
    before = cleaned(old)
    assume(before is not None)
    try:
        patched = merge_patch(old, patch) if how == "merge" else strategic_patch(old, patch, POD)
    except PatchError:
        return
    kept, whole = copy.deepcopy(old), copy.deepcopy(patched)
    told, unknown = cleaned(patched, old), cleaned(whole)
    assert (told is None) == (unknown is None)
    if told is not None and unknown is not None:
        assert patched == whole
        assert set(told) <= set(unknown) <= set(told) | set(before or ())  # the others were told when they came
    assert old == kept
