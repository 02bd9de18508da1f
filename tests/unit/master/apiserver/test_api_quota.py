"""LimitRange and ResourceQuota: what they add, what they refuse and in which words, and that nobody slips through."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import MAPS, PODS, SERVICES, config_map, pod, service

Document = dict[str, Any]

QUOTAS = "/api/v1/namespaces/default/resourcequotas"
LIMITS = "/api/v1/namespaces/default/limitranges"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"


def limit(api: Api, **of: Any) -> None:
    api.create(LIMITS, {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", **of}]}})
    api.get(LIMITS)  # a read as fresh as the store: admission sees it from now on


def quota(api: Api, name: str = "q", *, scopes: list[str] | None = None, **hard: str) -> Document:
    names = {key.replace("count__", "count/").replace("__", "."): value for key, value in hard.items()}
    spec = {"hard": names, **({"scopes": scopes} if scopes else {})}
    made = api.create(QUOTAS, {"metadata": {"name": name}, "spec": spec})
    api.get(QUOTAS)
    return made


def used(api: Api, name: str = "q") -> Document:
    found: Document = api.get(f"{QUOTAS}/{name}").document["status"]["used"]
    return found


def sized(name: str = "p", **resources: Any) -> Document:
    return pod(name, containers=[{"name": "c", "image": "i", "resources": resources}])


def test_containers_get_the_defaults_of_their_namespace(api: Api) -> None:
    limit(api, default={"cpu": "500m"}, defaultRequest={"cpu": "100m"})
    made = api.create(PODS, pod())
    container = made["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}
    assert made["metadata"]["annotations"] == {
        "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    }


def test_a_maximum_is_a_default_too(api: Api) -> None:
    limit(api, max={"memory": "1Gi"})
    found = api.get(f"{LIMITS}/l").document["spec"]["limits"][0]
    assert (found["default"], found["defaultRequest"]) == ({"memory": "1Gi"}, {"memory": "1Gi"})


@pytest.mark.parametrize(
    ("of", "resources", "told"),
    [
        (
            {"max": {"cpu": "1"}},
            {"limits": {"cpu": "2"}},
            "maximum cpu usage per Container is 1, but limit is 2",
        ),
        (
            {"min": {"cpu": "500m"}},
            {"requests": {"cpu": "100m"}},
            "minimum cpu usage per Container is 500m, but request is 100m",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            {"min": {"cpu": "500m"}, "max": {"cpu": "1"}},
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "2"}},
            "[minimum cpu usage per Container is 500m, but request is 100m, maximum cpu usage per Container is 1, but"
            " limit is 2]",
        ),
    ],
)
def test_what_is_beyond_a_limit_is_refused(api: Api, of: Document, resources: Document, told: str) -> None:
    limit(api, **of)
    answer = api.post(PODS, sized(**resources))
    assert (answer.code, answer.message) == (403, f'pods "p" is forbidden: {told}')


def test_a_claim_has_limits_of_its_own(api: Api) -> None:
    limit(api, type="PersistentVolumeClaim", max={"storage": "1Gi"})
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}
    answer = api.post(CLAIMS, {"metadata": {"name": "c"}, "spec": spec})
    assert answer.message == (
        'persistentvolumeclaims "c" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request'
        " is 2Gi"
    )


def test_a_quota_begins_with_a_count_of_what_is_there(api: Api) -> None:
    api.create(PODS, sized("a", requests={"cpu": "250m"}))
    assert quota(api, pods="2", requests__cpu="1")["status"] == {
        "hard": {"pods": "2", "requests.cpu": "1"},
        "used": {"pods": "1", "requests.cpu": "250m"},
    }


def test_what_is_over_the_quota_is_refused_in_upstreams_words(api: Api) -> None:
    quota(api, pods="2")
    for name in ("a", "b"):
        api.create(PODS, pod(name))
    answer = api.post(PODS, pod("c"))
    assert (answer.code, answer.document["reason"], answer.message) == (
        403,
        "Forbidden",
        'pods "c" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2',
    )
    assert used(api) == {"pods": "2"}


def test_compute_is_added_up_and_must_be_told(api: Api) -> None:
    quota(api, requests__cpu="1", limits__memory="1Gi")
    assert api.post(PODS, pod()).message == (
        'pods "p" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c'
    )
    api.create(PODS, sized("a", requests={"cpu": "600m"}, limits={"memory": "512Mi"}))
    assert api.post(PODS, sized("b", requests={"cpu": "600m"}, limits={"memory": "512Mi"})).message == (
        'pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited:'
        " requests.cpu=1"
    )
    assert used(api) == {"requests.cpu": "600m", "limits.memory": "512Mi"}


def test_what_goes_or_ends_is_given_back(api: Api) -> None:
    quota(api, pods="2", services__nodeports="1")
    for name in ("a", "b"):
        api.create(PODS, pod(name))
    api.delete(f"{PODS}/a")
    api.patch(f"{PODS}/b/status", {"status": {"phase": "Succeeded"}})
    assert used(api)["pods"] == "0"
    api.create(SERVICES, service("s", type="NodePort"))
    assert used(api)["services.nodeports"] == "1"
    assert api.post(SERVICES, service("t", type="NodePort")).code == 403
    api.patch(f"{SERVICES}/s", {"spec": {"type": "ClusterIP"}})
    assert used(api)["services.nodeports"] == "0"


def test_nothing_is_charged_for_what_is_not_stored(api: Api) -> None:
    quota(api, configmaps="5")
    before = used(api)
    assert api.post(f"{MAPS}?dryRun=All", config_map()).code == 201
    assert api.post(MAPS, {"metadata": {"name": "BAD"}}).code == 422
    assert used(api) == before
    api.create(MAPS, config_map())
    assert api.post(MAPS, config_map()).code == 409
    assert int(used(api)["configmaps"]) == int(before["configmaps"]) + 1


def test_scopes_choose_what_a_quota_counts(api: Api) -> None:
    quota(api, scopes=["BestEffort"], pods="0")
    assert api.post(PODS, pod("a")).code == 403
    assert api.post(PODS, sized("b", requests={"cpu": "1"})).code == 201


def test_any_kind_can_be_counted_by_its_group(api: Api) -> None:
    quota(api, count__configmaps="0")
    assert api.post(MAPS, config_map()).message == (
        'configmaps "m" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps='
        f"{used(api)['count/configmaps']}, limited: count/configmaps=0"
    )


def test_a_quota_that_changes_counts_anew(api: Api) -> None:
    quota(api, pods="1")
    api.create(PODS, pod())
    changed = api.patch(f"{QUOTAS}/q", {"spec": {"hard": {"pods": "3", "secrets": "9"}}}).document["status"]
    assert (changed["hard"], changed["used"]["pods"]) == ({"pods": "3", "secrets": "9"}, "1")


def test_what_a_crash_left_is_mended_at_start(api: Api) -> None:
    quota(api, pods="2")
    api.patch(f"{QUOTAS}/q/status", {"status": {"used": {"pods": "2"}}})
    api.server.context.allocation.repair()
    assert used(api) == {"pods": "0"}


def test_many_at_once_do_not_get_more_than_the_quota_has(api: Api) -> None:
    quota(api, pods="5")
    codes: list[int] = []

    def one(number: int) -> None:
        codes.append(api.post(PODS, pod(f"p{number}")).code)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert (codes.count(201), codes.count(403)) == (5, 15)
    assert used(api) == {"pods": "5"}
