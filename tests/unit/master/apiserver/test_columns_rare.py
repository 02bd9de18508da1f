"""Columns of kinds that few people list: right for a bare object and for a full one."""

from __future__ import annotations

import pytest

from labctl.kube.resources import BUILTIN, Resource
from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import Document

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def shown(api: Api, path: str, body: Document) -> dict[str, object]:
    api.create(path, body)
    table = api.get(path, accept=TABLE).document
    row = next(row for row in table["rows"] if row["object"]["metadata"]["name"] == "x")
    return dict(zip((column["name"] for column in table["columnDefinitions"]), row["cells"], strict=True))


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            "/apis/node.k8s.io/v1/runtimeclasses",
            {"handler": "kata"},
            {"Name": "x", "Handler": "kata"},
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            {"provisioner": "a/b", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            {"Name": "x (default)", "Provisioner": "a/b"},
        ),
        (
            "/apis/storage.k8s.io/v1/csidrivers",
            {"spec": {}},
            {"AttachRequired": True, "TokenRequests": "<unset>", "Modes": "Persistent"},
        ),
        (
            "/apis/networking.k8s.io/v1/ingressclasses",
            {"spec": {"controller": "a.io/b", "parameters": {"kind": "P", "name": "p"}}},
            {"Controller": "a.io/b", "Parameters": "P/p"},
        ),
        (
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            {},
            {"Webhooks": 0},
        ),
        (
            "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
            {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}},
            {"Type": "Limited", "NominalConcurrencyShares": 30, "Queues": 64},
        ),
        (
            "/api/v1/namespaces/default/podtemplates",
            {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
            {"Containers": "c", "Images": "i", "Pod Labels": "a=b"},
        ),
    ],
)
def test_a_row_says_what_upstreams_says(api: Api, path: str, body: Document, expected: Document) -> None:
    given = dict(body)
    metadata = {"name": "x", "annotations": given.pop("annotations", {})}
    found = shown(api, path, {**given, "metadata": metadata})
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("resource", [one for one in BUILTIN if "list" in one.verbs], ids=lambda one: one.qualified)
def test_every_kind_has_a_table_even_without_rows(api: Api, resource: Resource) -> None:
    path = resource.path()
    answer = api.get(path, accept=TABLE)
    assert (answer.code, answer.document["kind"]) == (200, "Table")
