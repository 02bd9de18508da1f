"""schemathesis reads our own OpenAPI document and sends what it allows, and what it does not: no answer is a 5xx.

The document is steered a little, so that requests get past the first check: bodies are JSON, YAML or any of the patch
types, names and namespaces are sometimes those of objects that exist, and watches end soon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from labctl.kube.resources import NAMESPACES, builtin
from labctl.runtime.clock import SystemClock
from tests.e2e.apiserver import ApiServer
from tests.etcd import Etcd

pytestmark = pytest.mark.etcd
CLOCK = SystemClock()
BUDGET_S = 75.0
EXAMPLES = 6
GROUPS = (
    "api/v1", "apis/apps/v1", "apis/batch/v1", "apis/rbac.authorization.k8s.io/v1", "apis/policy/v1",
    "apis/networking.k8s.io/v1", "apis/autoscaling/v1", "apis/autoscaling/v2", "apis/coordination.k8s.io/v1",
    "apis/authorization.k8s.io/v1", "apis/authentication.k8s.io/v1", "apis/discovery.k8s.io/v1",
    "apis/events.k8s.io/v1", "apis/storage.k8s.io/v1", "apis/scheduling.k8s.io/v1", "apis/certificates.k8s.io/v1",
    "apis/apiextensions.k8s.io/v1", "apis/resource.k8s.io/v1",
)  # fmt: skip
_STREAMS = ("/log", "/exec", "/attach", "/portforward", "/proxy", "/proxy/{path}")  # a kubelet would have to answer
_NAMES = {"anyOf": [{"type": "string", "enum": ["fuzz", "default", "kubernetes"]}, {"type": "string", "minLength": 1}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    etcd = Etcd(folder / "etcd")
    etcd.start()
    running = ApiServer(folder, etcd.url)
    try:
        running.start()
        furnish(running)
        yield running
    finally:
        running.kill()
        etcd.kill()


def furnish(server: ApiServer) -> None:
    """Objects named fuzz, so that reads, patches and deletes find something."""
    client = server.client()
    client.create(NAMESPACES, {"metadata": {"name": "fuzz"}})
    labels = {"matchLabels": {"a": "b"}}
    pod = {"containers": [{"name": "c", "image": "x:1"}], "restartPolicy": "Always"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod}
    workload = {"selector": labels, "template": template}
    for resource, body in (
        (builtin("configmaps"), {"data": {"a": "b"}}),
        (builtin("secrets"), {"stringData": {"a": "b"}}),
        (builtin("pods"), {"spec": pod}),
        (builtin("services"), {"spec": {"ports": [{"port": 80}]}}),
        (builtin("deployments", "apps"), {"spec": workload}),
        (builtin("replicasets", "apps"), {"spec": workload}),
        (builtin("statefulsets", "apps"), {"spec": workload}),
        (builtin("daemonsets", "apps"), {"spec": workload}),
        (builtin("leases", "coordination.k8s.io"), {"spec": {}}),
        (builtin("poddisruptionbudgets", "policy"), {"spec": {"selector": labels}}),
        (builtin("roles", "rbac.authorization.k8s.io"), {"rules": []}),
    ):
        client.create(resource, {"metadata": {"name": "fuzz"}, **body}, "default")


def steered(document: dict[str, Any]) -> dict[str, Any]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "path":
                    parameter["schema"] = _NAMES
                elif parameter["name"] == "timeoutSeconds":
                    parameter |= {"required": True, "schema": {"type": "integer", "enum": [0, 1]}}
                elif parameter["name"] == "watch" and path.endswith("}"):
                    parameter["schema"] = {"type": "boolean", "enum": [False]}
            content = operation.get("requestBody", {}).get("content", {})
            if "*/*" in content:
                any_type = content.pop("*/*")
                content |= {"application/json": any_type, "application/yaml": any_type}
    metadata = document["components"]["schemas"].get("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
    if metadata:
        metadata["properties"]["name"] = {"type": "string", "enum": ["fuzz", "Fuzz!"]}
        metadata["properties"]["namespace"] = {"type": "string", "enum": ["default", "fuzz"]}
    return document


def operations(server: ApiServer) -> list[Any]:
    """Of every group, by turns."""
    client = server.client()
    found: list[list[Any]] = []
    for group in GROUPS:
        document = msgspec.json.decode(client.request("GET", f"/openapi/v3/{group}"))
        schema = schemathesis.openapi.from_dict(steered(document))
        ready = [_understood(result) for result in schema.get_all_operations()]
        found.append([operation for operation in ready if not operation.path.endswith(_STREAMS)])
    return [operation for operation in chain.from_iterable(zip_longest(*found)) if operation is not None]


def _understood(result: Any) -> Any:
    """The operation; an error that says what is wrong with the document."""
    return result.ok()


def test_no_request_that_our_own_document_describes_is_answered_with_a_5xx(
    server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = server.pki.issue("admin", "kubernetes-admin", "system:masters")
    options: dict[str, Any] = {"verify": str(server.pki.ca_file), "cert": certificate, "timeout": 20}
    codes: Counter[int] = Counter()
    broken: list[str] = []
    ends_s = CLOCK.monotonic_s() + BUDGET_S
    tried: list[str] = []
    for operation in operations(server):
        if CLOCK.monotonic_s() > ends_s:
            break
        tried.append(operation.label)

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,  # the same requests in every run
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def send(case: Any) -> None:
            answer = case.call(base_url=server.url, **options)
            codes[answer.status_code] += 1
            if answer.status_code >= 500:
                broken.append(f"{case.as_curl_command()[:800]}\n  -> {answer.status_code} {answer.text[:500]}")

        send()
    with capsys.disabled():
        print(f"\n{sum(codes.values())} requests to {len(tried)} operations, codes {dict(sorted(codes.items()))}:")
        print("\n".join(tried))
    assert not broken, "\n".join(broken[:20])
    assert len(tried) > 40
    assert codes[200] + codes[201] > 20, "hardly anything was accepted: the document is steered badly"
    assert "Traceback" not in server.log
