"""Subresources: status, scale, binding, eviction, token, log; and reviews."""

from __future__ import annotations

from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import DEPLOYMENTS, PODS, deployment, pod

BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


def bind(api: Api, node: str) -> int:
    body = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}}
    return api.post(f"{PODS}/p/binding", body).code


def test_a_pod_is_bound_once_and_says_so(api: Api) -> None:
    api.create(PODS, pod())
    assert bind(api, "n1") == 201
    bound = api.get(f"{PODS}/p").document
    assert bound["spec"]["nodeName"] == "n1"
    assert [(entry["type"], entry["status"]) for entry in bound["status"]["conditions"]] == [("PodScheduled", "True")]
    assert bind(api, "n2") == 409
    assert api.get(f"{PODS}/p").document["spec"]["nodeName"] == "n1"


def test_a_pod_that_is_being_deleted_is_not_bound(api: Api) -> None:
    api.create(PODS, pod() | {"metadata": {"name": "p", "finalizers": ["example.com/hold"]}})
    api.delete(f"{PODS}/p")
    assert bind(api, "n1") == 409


def test_a_pod_with_gates_says_that_it_waits_for_them_and_cannot_be_bound(api: Api) -> None:
    gated = pod()
    gated["spec"]["schedulingGates"] = [{"name": "example.com/wait"}]
    (entry,) = api.create(PODS, gated)["status"]["conditions"]
    assert (entry["type"], entry["status"], entry["reason"]) == ("PodScheduled", "False", "SchedulingGated")
    assert entry["message"] == "Scheduling is blocked due to non-empty scheduling gates"
    assert entry["lastTransitionTime"]
    assert bind(api, "n1") == 409


def test_the_scale_of_a_workload_is_read_and_written(api: Api) -> None:
    api.create(DEPLOYMENTS, deployment(replicas=2))
    scale = api.get(f"{DEPLOYMENTS}/d/scale").document
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 2}, "app=d")
    scale["spec"]["replicas"] = 5
    assert api.put(f"{DEPLOYMENTS}/d/scale", scale).document["spec"] == {"replicas": 5}
    assert api.put(f"{DEPLOYMENTS}/d/scale", scale).code == 409  # the revision is no longer true
    assert api.patch(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 0}}).code == 200
    grown = api.get(f"{DEPLOYMENTS}/d").document
    assert (grown["spec"]["replicas"], grown["metadata"]["generation"]) == (0, 3)
    assert api.patch(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": -1}}).code == 422


def test_an_eviction_is_refused_while_the_budget_is_spent_and_spends_it_otherwise(api: Api) -> None:
    api.create(PODS, pod(node="n1", labels={"app": "x"}))
    api.patch(f"{PODS}/p/status", {"status": {"phase": "Running"}})
    api.create(BUDGETS, {"metadata": {"name": "b"}, "spec": {"selector": {"matchLabels": {"app": "x"}}}})
    eviction = {"metadata": {"name": "p"}}
    refused = api.post(f"{PODS}/p/eviction", eviction)
    assert (refused.code, refused.message) == (
        429,
        "Cannot evict pod as it would violate the pod's disruption budget.",
    )
    assert refused.document["details"]["causes"][0]["reason"] == "DisruptionBudget"
    api.patch(f"{BUDGETS}/b/status", {"status": {"disruptionsAllowed": 1, "observedGeneration": 1}})
    assert api.post(f"{PODS}/p/eviction", eviction).code == 201
    assert api.get(f"{PODS}/p").document["metadata"]["deletionTimestamp"]
    assert api.get(f"{BUDGETS}/b").document["status"]["disruptionsAllowed"] == 0


def test_an_eviction_without_a_budget_is_a_graceful_delete(api: Api) -> None:
    api.create(PODS, pod(node="n1"))
    assert api.post(f"{PODS}/p/eviction", {"deleteOptions": {"gracePeriodSeconds": 7}}).code == 201
    assert api.get(f"{PODS}/p").document["metadata"]["deletionGracePeriodSeconds"] == 7


def test_a_log_needs_a_container_that_the_pod_has(api: Api) -> None:
    api.create(PODS, pod(containers=[{"name": "a", "image": "x:1"}, {"name": "b", "image": "x:1"}]))
    unnamed = api.get(f"{PODS}/p/log")
    assert unnamed.code == 400
    assert unnamed.message == "a container name must be specified for pod p, choose one of: [a b]"
    assert api.get(f"{PODS}/p/log?container=c").message == "container c is not valid for pod p"
    assert (api.get(f"{PODS}/p/log?container=a").code, api.get(f"{PODS}/p/log?container=a").body) == (200, b"")


def test_the_log_of_a_pod_whose_node_does_not_answer_is_unavailable(api: Api) -> None:
    address = {"type": "InternalIP", "address": "127.0.0.1"}
    endpoint = {"kubeletEndpoint": {"Port": 9}}
    api.create(
        "/api/v1/nodes", {"metadata": {"name": "n1"}, "status": {"addresses": [address], "daemonEndpoints": endpoint}}
    )
    api.create(PODS, pod(node="n1"))
    assert api.get(f"{PODS}/p/log").code in {500, 503}


def test_a_subresource_that_a_kind_does_not_have_is_not_found(api: Api) -> None:
    api.create(PODS, pod())
    for path in (f"{PODS}/p/scale", "/api/v1/namespaces/default/configmaps/x/status"):
        assert api.get(path).code == 404


def test_tokens_need_a_signing_key(api: Api) -> None:
    api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}})
    assert api.post("/api/v1/namespaces/default/serviceaccounts/robot/token", {"spec": {}}).code == 503


def test_reviews_tell_what_an_identity_may_do(api: Api) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    scheduler = api.as_user("system:kube-scheduler")

    def may(who: Api, verb: str, resource: str, subresource: str = "") -> bool:
        wanted = {"verb": verb, "resource": resource, "subresource": subresource}
        return bool(who.create(path, {"spec": {"resourceAttributes": wanted}})["status"]["allowed"])

    assert may(api, "delete", "nodes")
    assert may(scheduler, "create", "pods", "binding")
    assert not may(scheduler, "create", "pods")
    whoami = scheduler.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    assert whoami["status"]["userInfo"]["username"] == "system:kube-scheduler"
