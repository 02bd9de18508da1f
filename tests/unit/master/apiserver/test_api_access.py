"""Who may do what, and the paths that are no resource: health, version, metrics, discovery, OpenAPI."""

from __future__ import annotations

import pytest

from labctl.kube.resources import BUILTIN, Resource
from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import PODS, pod

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def test_nobody_reaches_health_and_version_and_nothing_else(api: Api) -> None:
    nobody = api.nobody()
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert nobody.get(path).code == 200
    for path in ("/api", "/apis", "/openapi/v2", "/metrics", "/readyz/etcd"):
        answer = nobody.get(path)
        assert answer.code == 403
        assert answer.message == f'forbidden: User "system:anonymous" cannot get path "{path}"'
    refused = nobody.get(PODS)
    assert refused.message == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group ""'
        ' in the namespace "default"'
    )


def test_a_token_that_nobody_issued_is_unauthorized(api: Api) -> None:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api", "HTTP_AUTHORIZATION": "Bearer x.y.z"}
    reply, _ = api.server.answer(environ, lambda: b"")
    assert reply.code == 401


def test_a_new_node_takes_no_pods_until_it_is_seen_ready(api: Api) -> None:
    made = api.create("/api/v1/nodes", {"metadata": {"name": "n1"}})
    assert made["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


def test_pods_get_priority_and_tolerations(api: Api) -> None:
    spec = api.create(PODS, pod())["spec"]
    assert spec["priority"] == 0
    tolerated = {(entry["key"], entry["effect"], entry["tolerationSeconds"]) for entry in spec["tolerations"]}
    fast = api.server.context.config.timing.toleration_s
    assert tolerated == {
        ("node.kubernetes.io/not-ready", "NoExecute", fast),
        ("node.kubernetes.io/unreachable", "NoExecute", fast),
    }
    critical = api.create(PODS, pod("q", priorityClassName="system-node-critical"))["spec"]
    assert critical["priority"] == 2_000_001_000
    unknown = api.post(PODS, pod("r", priorityClassName="none"))
    assert (unknown.code, "no PriorityClass with name none was found" in unknown.message) == (403, True)


def test_the_version_is_one_that_clients_accept(api: Api) -> None:
    found = api.get("/version").document
    assert (found["major"], found["minor"], found["gitVersion"]) == ("1", "37", "v1.37.0-labctl")


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda resource: f"{resource.plural}.{resource.group}")
def test_every_built_in_kind_is_discovered_and_listed(api: Api, resource: Resource) -> None:
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else "/api/v1"
    (found,) = [entry for entry in api.get(root).document["resources"] if entry["name"] == resource.plural]
    assert (found["kind"], found["namespaced"]) == (resource.kind, resource.namespaced)
    if "list" in resource.verbs:
        listed = api.get(resource.path()).document
        assert (listed["kind"], listed["apiVersion"]) == (f"{resource.kind}List", resource.api_version)


def test_aggregated_discovery_names_kinds_and_subresources(api: Api) -> None:
    core = api.get("/api", accept=AGGREGATED)
    assert core.headers["Content-Type"] == AGGREGATED
    (version,) = core.document["items"][0]["versions"]
    (pods,) = [entry for entry in version["resources"] if entry["resource"] == "pods"]
    assert (pods["scope"], pods["shortNames"], pods["singularResource"]) == ("Namespaced", ["po"], "pod")
    eviction = {"group": "policy", "version": "v1", "kind": "Eviction"}
    assert {"subresource": "eviction", "responseKind": eviction, "verbs": ["create"]} in pods["subresources"]
    groups = [item["metadata"]["name"] for item in api.get("/apis", accept=AGGREGATED).document["items"]]
    assert {"apps", "batch", "rbac.authorization.k8s.io"} <= set(groups)


def test_every_openapi_reference_leads_somewhere(api: Api) -> None:
    index = api.get("/openapi/v3").document["paths"]
    assert {"api/v1", "apis/apps/v1"} <= set(index)
    for about in index.values():
        document = api.get(about["serverRelativeURL"]).document
        known = set(document["components"]["schemas"])
        assert _references(document, "#/components/schemas/") <= known
    swagger = api.get("/openapi/v2").document
    assert _references(swagger, "#/definitions/") <= set(swagger["definitions"])


def _references(node: object, prefix: str) -> set[str]:
    if isinstance(node, dict):
        found = {
            str(value).removeprefix(prefix) for key, value in node.items() if key == "$ref" and isinstance(value, str)
        }
        return found.union(*(_references(value, prefix) for value in node.values()))
    return set().union(*(_references(entry, prefix) for entry in node)) if isinstance(node, list) else set()


def test_patch_operations_say_that_they_validate_fields(api: Api) -> None:
    paths = api.get("/openapi/v3/apis/apps/v1").document["paths"]
    patch = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}


def test_verbs_a_resource_does_not_have_are_not_allowed(api: Api) -> None:
    assert api.put(PODS, pod()).code == 405
    assert api.call("OPTIONS", PODS).code == 405
    assert api.get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").code == 405
