"""Whatever a client sends as a patch or as owners, the answer is a Status that says why, never a 5xx."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import DEPLOYMENTS, deployment

WORDS = some.sampled_from(
    ["metadata", "spec", "status", "name", "labels", "template", "containers", "ports", "containerPort", "protocol",
     "image", "replicas", "strategy", "finalizers", "annotations", "managedFields", "fieldsV1", "fieldsType", "manager",
     "operation", "apiVersion", "time", "f:spec", "k:{}", ".", "v:1", "$patch", "$retainKeys", "uid", "resourceVersion",
     "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers", "op", "path", "value", "from",
     "ownerReferences"]
)  # fmt: skip
SCALARS: some.SearchStrategy[Any] = (
    some.none()
    | some.booleans()
    | some.integers(-(1 << 70), 1 << 70)
    | some.floats(allow_nan=False, allow_infinity=False)
    | some.sampled_from(
        ["", "d", "v1", "apps/v1", "Apply", "FieldsV1", "delete", "replace", "add", "/spec", "/-", "é\x00"]
    )
)
JSON: some.SearchStrategy[Any] = some.recursive(
    SCALARS, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)
OBJECTS = some.dictionaries(WORDS, JSON, max_size=4)
HEAD = {"apiVersion": "apps/v1", "kind": "Deployment"}
ENTRIES = some.lists(
    some.fixed_dictionaries(
        {"operation": some.sampled_from(["Apply", "Update"]), "apiVersion": some.sampled_from(["apps/v1", "v0", ""])},
        optional={"fieldsType": some.just("FieldsV1"), "fieldsV1": OBJECTS, "manager": some.sampled_from(["a", "b"])},
    ),
    max_size=3,
)


@pytest.fixture
def made(api: Api) -> Api:
    api.create(DEPLOYMENTS, deployment())
    return api


quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(body=OBJECTS, spec=JSON, metadata=OBJECTS, force=some.booleans())
def test_any_configuration_is_applied_or_refused(made: Api, body: Any, spec: Any, metadata: Any, force: bool) -> None:
    for config in (body, {**HEAD, "spec": spec}, {**HEAD, "metadata": {**metadata, "name": "d"}}, {**HEAD, **body}):
        answer = made.patch(f"{DEPLOYMENTS}/d?fieldManager=x&force={force}", config, "apply")
        assert answer.code < 500, (config, answer.body)


@quick
@given(body=JSON, spec=OBJECTS)
def test_any_patch_is_carried_out_or_refused(made: Api, body: Any, spec: Any) -> None:
    for kind in ("merge", "strategic"):
        for patch in (body, {"spec": spec}, {"spec": {"template": {"spec": spec}}}, {"metadata": spec}):
            answer = made.patch(f"{DEPLOYMENTS}/d", patch, kind)
            assert answer.code < 500, (kind, patch, answer.body)
    for operations in (body, [spec], [{"op": "add", "path": "/spec/template", "value": spec}]):
        answer = made.patch(f"{DEPLOYMENTS}/d", operations, "json")
        assert answer.code < 500, (operations, answer.body)


@quick
@given(entries=ENTRIES, more=JSON)
def test_any_owners_are_taken_or_ignored(made: Api, entries: Any, more: Any) -> None:
    for given_ in (entries, more, [more]):
        answer = made.patch(f"{DEPLOYMENTS}/d?fieldManager=y", {"metadata": {"managedFields": given_}})
        assert answer.code < 500, (given_, answer.body)
        config = {**HEAD, "metadata": {"name": "d", "labels": {"a": "b"}}}
        answer = made.patch(f"{DEPLOYMENTS}/d?fieldManager=z&force=true", config, "apply")
        assert answer.code == 200, (given_, answer.body)
