"""What verbs do beyond storing: names drawn again, creation by PUT, versions that must be told, warnings, evictions."""

from __future__ import annotations

from typing import Any

import pytest

from master.apiserver import metadata
from tests.unit.master.apiserver.harness import Answer, Api
from tests.unit.master.apiserver.objects import DEPLOYMENTS, MAPS, PODS, SERVICES, config_map, deployment, pod, service

Document = dict[str, Any]

LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"


def test_a_generated_name_that_is_taken_is_drawn_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["m-aaaaa", "m-aaaaa", "m-bbbbb"])
    monkeypatch.setattr(metadata, "generated_name", lambda _: next(drawn))
    body = {"metadata": {"generateName": "m-"}}
    assert [api.create(MAPS, body)["metadata"]["name"] for _ in range(2)] == ["m-aaaaa", "m-bbbbb"]


def test_a_name_that_cannot_be_drawn_is_told_in_upstreams_words(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "generated_name", lambda _: "m-aaaaa")
    body = {"metadata": {"generateName": "m-"}}
    api.create(MAPS, body)
    answer = api.post(MAPS, body)
    assert (answer.code, answer.document["reason"], answer.message) == (
        409,
        "AlreadyExists",
        'configmaps "m-aaaaa" already exists, the server was not able to generate a unique name for the object',
    )


def test_a_put_creates_a_lease_but_not_a_deployment(api: Api) -> None:
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
    assert api.put(f"{LEASES}/l?dryRun=All", lease).code == 201
    assert api.get(f"{LEASES}/l").code == 404
    made = api.put(f"{LEASES}/l", lease)
    assert (made.code, made.document["spec"]) == (201, {"holderIdentity": "me"})
    assert api.put(f"{DEPLOYMENTS}/d", deployment()).code == 404


def test_a_put_on_a_lease_must_say_which_version_it_saw(api: Api) -> None:
    made = api.create(LEASES, {"metadata": {"name": "l"}})
    blind = api.put(f"{LEASES}/l", {"metadata": {"name": "l"}})
    assert (blind.code, blind.message) == (
        422,
        'Lease.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an'
        " update",
    )
    assert api.put(f"{LEASES}/l", made).code == 200


def test_a_rule_that_is_broken_several_times_is_told_in_a_bracketed_list(api: Api) -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["containers"] = [{"name": "c"}, {"name": "c", "image": "i"}]
    answer = api.post(DEPLOYMENTS, body)
    first = "spec.template.spec.containers[0].image: Required value"
    second = 'spec.template.spec.containers[1].name: Duplicate value: "c"'
    assert (answer.code, answer.message) == (422, f'Deployment.apps "d" is invalid: [{first}, {second}]')
    assert answer.document["details"] == {
        "name": "d",
        "group": "apps",
        "kind": "Deployment",
        "causes": [
            {
                "reason": "FieldValueRequired",
                "message": "Required value",
                "field": "spec.template.spec.containers[0].image",
            },
            {
                "reason": "FieldValueDuplicate",
                "message": 'Duplicate value: "c"',
                "field": "spec.template.spec.containers[1].name",
            },
        ],
    }


def test_a_collection_is_not_deleted_by_a_dry_run(api: Api) -> None:
    api.create(MAPS, config_map("a"))
    assert api.delete(f"{MAPS}?dryRun=All").code == 200
    assert api.delete(MAPS, {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}).code == 200
    assert api.get(f"{MAPS}/a").code == 200
    assert api.delete(MAPS).code == 200
    assert api.get(f"{MAPS}/a").code == 404


def test_namespaces_are_not_deleted_as_a_collection_and_some_never(api: Api) -> None:
    assert api.delete("/api/v1/namespaces").code == 405
    kept = api.delete("/api/v1/namespaces/kube-system")
    assert (kept.code, kept.message) == (
        403,
        'namespaces "kube-system" is forbidden: this namespace may not be deleted',
    )


def test_deprecated_kinds_and_surprising_fields_come_with_warnings(api: Api) -> None:
    endpoints = api.get("/api/v1/namespaces/default/endpoints")
    assert endpoints.warnings == ["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"]
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    body = pod(containers=[{"name": "c", "image": "i", "env": env}], nodeSelector={"beta.kubernetes.io/os": "linux"})
    assert api.post(PODS, body).warnings == [
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
    ]
    assert api.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}}).warnings == []
    assert api.post(SERVICES, service(externalIPs=["192.0.2.9"])).warnings == [
        "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    ]


def test_a_resize_takes_sizes_and_nothing_else(api: Api) -> None:
    api.create(PODS, pod(containers=[{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]))
    body = {"spec": {"containers": [{"name": "c", "image": "other", "resources": {"requests": {"cpu": "2"}}}]}}
    changed = api.patch(f"{PODS}/p/resize", body, "strategic")
    assert changed.code == 200, changed.body
    container = changed.document["spec"]["containers"][0]
    assert (container["image"], container["resources"]) == ("i", {"requests": {"cpu": "2"}})
    gone = api.patch(f"{PODS}/p/resize", {"spec": {"containers": [{"name": "c", "resources": None}]}}, "strategic")
    assert (gone.code, "resource requests cannot be removed" in gone.message) == (422, True)


def test_ephemeral_containers_join_a_running_pod(api: Api) -> None:
    api.create(PODS, pod())
    added = {"spec": {"ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "c"}]}}
    assert api.patch(f"{PODS}/p", added, "strategic").code == 422
    changed = api.patch(f"{PODS}/p/ephemeralcontainers", added, "strategic")
    assert (changed.code, changed.document["spec"]["ephemeralContainers"][0]["name"]) == (200, "e")


def _evict(api: Api, name: str = "p") -> Answer:
    return api.post(f"{PODS}/{name}/eviction", {"metadata": {"name": name}})


def _budget(api: Api, name: str, status: Document, **spec: Any) -> None:
    api.create(BUDGETS, {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": "x"}}, **spec}})
    api.patch(f"{BUDGETS}/{name}/status", {"status": {"observedGeneration": 1, **status}})


def _running(api: Api, name: str = "p", *, ready: bool = True) -> None:
    api.create(PODS, pod(name, node="n1", labels={"app": "x"}))
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    api.patch(f"{PODS}/{name}/status", {"status": {"phase": "Running", "conditions": [condition]}})


def test_an_eviction_says_what_the_budget_needs(api: Api) -> None:
    _running(api)
    _budget(api, "b", {"disruptionsAllowed": 0, "desiredHealthy": 2, "currentHealthy": 2})
    refused = _evict(api)
    assert (refused.code, refused.document["details"]["causes"]) == (
        429,
        [
            {
                "reason": "DisruptionBudget",
                "message": "The disruption budget b needs 2 healthy pods and has 2 currently",
            }
        ],
    )


def test_a_broken_pod_goes_past_a_budget_that_lets_it(api: Api) -> None:
    _running(api, ready=False)
    _budget(api, "b", {"disruptionsAllowed": 0, "desiredHealthy": 2}, unhealthyPodEvictionPolicy="AlwaysAllow")
    assert _evict(api).code == 201
    assert api.get(f"{BUDGETS}/b").document["status"]["disruptionsAllowed"] == 0


def test_an_evicted_pod_says_why_it_ends(api: Api) -> None:
    _running(api)
    assert _evict(api).code == 201
    conditions = {entry["type"]: entry for entry in api.get(f"{PODS}/p").document["status"]["conditions"]}
    assert conditions["DisruptionTarget"]["reason"] == "EvictionByEvictionAPI"


def test_a_pod_of_two_budgets_is_not_evicted(api: Api) -> None:
    _running(api)
    for name in ("a", "b"):
        _budget(api, name, {"disruptionsAllowed": 1})
    refused = _evict(api)
    assert (refused.code, refused.message) == (
        500,
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
    )


def test_there_is_one_default_priority_class(api: Api) -> None:
    api.create(CLASSES, {"metadata": {"name": "a"}, "value": 5, "globalDefault": True})
    api.get(CLASSES)
    second = api.post(CLASSES, {"metadata": {"name": "b"}, "value": 6, "globalDefault": True})
    assert (second.code, second.message) == (
        403,
        'priorityclasses.scheduling.k8s.io "b" is forbidden: PriorityClass a is already marked as default. Only one'
        " default can exist",
    )
    made = api.create(PODS, pod())["spec"]
    assert (made["priorityClassName"], made["priority"], made["preemptionPolicy"]) == ("a", 5, "PreemptLowerPriority")
