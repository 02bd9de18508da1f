from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.errors import Forbidden
from labctl.kube.resources import CONFIG_MAPS, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES, Resource, builtin
from master.controllers import views, views_apps, views_policy
from master.controllers.catalog.resource_quota import CONTROLLER, Memory, plan
from master.controllers.protocol import NEVER_S, Patch, Plan, Settings
from tests.unit.master.controllers.cluster import Cluster
from tests.unit.master.controllers.world import actions, meta, pod, statuses, world

QUOTAS = builtin("resourcequotas")
KINDS: tuple[Resource, ...] = (PODS, SERVICES, PERSISTENT_VOLUME_CLAIMS, CONFIG_MAPS)
VIEWS = {QUOTAS: views_policy.Quota, PERSISTENT_VOLUME_CLAIMS: views_apps.Claim, CONFIG_MAPS: views.Owned}


def quota(hard: dict[str, str], used: dict[str, str], **more: Any) -> dict[str, Any]:
    spec = {"hard": hard, **more.pop("spec", {})}
    return {"metadata": meta("q", **more), "spec": spec, "status": {"hard": hard, "used": used}}


def asking(name: str, cpu: str, **more: Any) -> dict[str, Any]:
    found = pod(name, **more)
    found["spec"]["containers"] = [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]
    return found


def look(
    item: dict[str, Any], objects: dict[Resource, list[Any]], memory: Memory | None = None, at_s: float = 0.0
) -> Plan:
    seen = world(
        {QUOTAS: [item], **objects}, now_s=1_000.0 + at_s, settings=Settings(kinds=(*KINDS, QUOTAS)), kinds=VIEWS
    )
    return plan(seen, memory or Memory())


def settled(item: dict[str, Any], objects: dict[Resource, list[Any]]) -> Plan:
    """Look twice, with nothing moving in between."""
    first = look(item, objects)
    return look(item, objects, first.memory, 30.0)


def used(decided: Plan) -> dict[str, str]:
    found: dict[str, str] = statuses(decided, QUOTAS)["q"]["used"]
    return found


def test_a_count_that_is_right_is_left_alone_however_it_is_written() -> None:
    item = quota({"pods": "5", "requests.cpu": "2"}, {"pods": "2", "requests.cpu": "0.5"})
    decided = look(item, {PODS: [asking("a", "250m"), asking("b", "250m")]})
    assert (decided.steps, decided.wake_after_s) == ((), NEVER_S)


def test_a_charge_that_a_crash_left_is_given_back_once_it_has_stood_for_a_while() -> None:
    item = quota({"pods": "5", "requests.cpu": "2"}, {"pods": "3", "requests.cpu": "900m"})
    objects = {PODS: [asking("a", "250m"), asking("b", "250m", phase="Succeeded")]}
    first = look(item, objects)
    assert (first.steps, first.wake_after_s) == ((), 30.0)
    assert look(item, objects, first.memory, 29.0).steps == ()
    decided = look(item, objects, first.memory, 30.0)
    assert used(decided) == {"pods": "1", "requests.cpu": "250m"}
    (change,) = actions(decided, Patch)
    assert change.body["metadata"]["resourceVersion"] == "1"  # a request that is charged meanwhile comes first


@pytest.mark.parametrize("moved", ["quota", "pods"])
def test_while_anything_moves_nothing_is_written(moved: str) -> None:
    item = quota({"pods": "5"}, {"pods": "3"})
    first = look(item, {PODS: [pod("a")]})
    pods = [pod("a"), pod("b")] if moved == "pods" else [pod("a")]
    if moved == "quota":
        item["metadata"]["resourceVersion"] = "2"
    second = look(item, {PODS: pods}, first.memory, 30.0)
    assert (second.steps, second.wake_after_s) == ((), 30.0)


def test_every_kind_counts_and_only_in_the_quota_s_own_namespace() -> None:
    hard = ["count/configmaps", "services", "services.nodeports", "requests.storage", "persistentvolumeclaims", "pods"]
    service = {"metadata": meta("s"), "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}}
    claim = {"metadata": meta("c"), "spec": {"resources": {"requests": {"storage": "1Gi"}}}}
    objects = {
        SERVICES: [service],
        PERSISTENT_VOLUME_CLAIMS: [claim],
        CONFIG_MAPS: [{"metadata": meta("m")}, {"metadata": meta("n", "other")}],
        PODS: [],
    }
    assert used(settled(quota(dict.fromkeys(hard, "9"), {}), objects)) == {
        "count/configmaps": "1",
        "services": "1",
        "services.nodeports": "1",
        "requests.storage": "1Gi",
        "persistentvolumeclaims": "1",
        "pods": "0",
    }


def test_scopes_choose_which_pods_count() -> None:
    bounded = pod("a", spec={"activeDeadlineSeconds": 60})
    item = quota({"pods": "9"}, {"pods": "0"}, spec={"scopes": ["Terminating"]})
    assert used(settled(item, {PODS: [bounded, pod("b")]})) == {"pods": "1"}


def test_what_no_kind_we_follow_counts_for_stays_as_it_is() -> None:
    item = quota({"pods": "9", "count/things.example.com": "9"}, {"pods": "4", "count/things.example.com": "3"})
    assert used(settled(item, {PODS: [pod("a")]})) == {"pods": "1", "count/things.example.com": "3"}


def test_the_api_server_takes_the_count_and_charges_on_from_it(cluster: Cluster) -> None:
    cluster.create(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}})
    cluster.create(PODS, {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    cluster.change(QUOTAS, "q", {"status": {"used": {"pods": "2"}}}, subresource="status")  # as a crash might leave it
    cluster.run(CONTROLLER)
    cluster.skipped_s += 31
    cluster.run(CONTROLLER)
    assert cluster.get(QUOTAS, "q")["status"]["used"] == {"pods": "1"}
    cluster.create(PODS, {"metadata": {"name": "b"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    assert cluster.get(QUOTAS, "q")["status"]["used"] == {"pods": "2"}
    with pytest.raises(Forbidden, match="exceeded quota"):
        cluster.create(PODS, {"metadata": {"name": "d"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})


def test_a_quota_on_what_our_view_leaves_out_is_left_to_the_api_server() -> None:
    item = quota({"pods": "9"}, {"pods": "4"}, spec={"scopes": ["CrossNamespacePodAffinity"]})
    assert settled(item, {PODS: [pod("a")]}).steps == ()
