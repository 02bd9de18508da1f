"""The ServiceAccount admission: which account a pod runs as, and what is mounted for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop
from master.apiserver import bootstrap
from master.apiserver.admission.service_account import MOUNT_PATH
from master.apiserver.app import Server
from master.apiserver.server import make_context
from master.store.memory import MemoryStore
from tests.unit.master.apiserver.harness import CONFIG, Api
from tests.unit.master.apiserver.objects import PODS, pod

Document = dict[str, Any]

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
CONTAINER: Document = {"name": "c", "image": "busybox:1"}


@pytest.fixture
def accounted() -> Iterator[Api]:
    """An API server with every admission plugin, and the accounts `default` and `robot`."""
    stop, store = Stop(), MemoryStore(SystemClock())
    context = make_context(msgspec.structs.replace(CONFIG, disable_admission_plugins=()), store, stop)
    bootstrap.run(context)
    context.startup.finish()
    api = Api(Server(context))
    api.create(ACCOUNTS, {"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "pull"}]})
    api.create(ACCOUNTS, {"metadata": {"name": "robot"}, "automountServiceAccountToken": False})
    yield api
    stop.set()
    store.close()


def mounts(made: Document) -> list[list[str]]:
    """Where something is mounted, by container."""
    spec = made["spec"]
    return [
        [mount["mountPath"] for mount in container.get("volumeMounts", ())]
        for container in (*spec.get("initContainers", ()), *spec["containers"])
    ]


def test_a_pod_runs_as_default_with_its_token_mounted(accounted: Api) -> None:
    made = accounted.create(PODS, pod(initContainers=[{**CONTAINER, "name": "i"}]))
    spec = made["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert mounts(made) == [[MOUNT_PATH], [MOUNT_PATH]]
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    assert volume["projected"] == {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
        ],
    }


def test_nothing_is_mounted_where_pod_or_account_say_so(accounted: Api) -> None:
    assert mounts(accounted.create(PODS, pod("a", automountServiceAccountToken=False))) == [[]]
    assert mounts(accounted.create(PODS, pod("b", serviceAccountName="robot"))) == [[]]
    wanted = pod("c", serviceAccountName="robot", automountServiceAccountToken=True)
    assert mounts(accounted.create(PODS, wanted)) == [[MOUNT_PATH]]


def test_a_container_that_mounts_its_own_there_keeps_it(accounted: Api) -> None:
    own = {**CONTAINER, "volumeMounts": [{"name": "mine", "mountPath": MOUNT_PATH}]}
    made = accounted.create(PODS, pod(containers=[own], volumes=[{"name": "mine", "emptyDir": {}}]))
    assert [volume["name"] for volume in made["spec"]["volumes"]] == ["mine"]


def test_a_pod_of_an_account_that_is_not_there_is_refused(accounted: Api) -> None:
    refused = accounted.post(PODS, pod(serviceAccountName="none"))
    assert (refused.code, refused.message) == (
        403,
        'pods "p" is forbidden: error looking up service account default/none: serviceaccount "none" not found',
    )


def test_the_default_account_of_a_young_namespace_is_waited_for(accounted: Api) -> None:
    accounted.create("/api/v1/namespaces", {"metadata": {"name": "young"}})
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(accounted.post("/api/v1/namespaces/young/pods", pod())))
    waiting.start()
    accounted.create("/api/v1/namespaces/young/serviceaccounts", {"metadata": {"name": "default"}})
    waiting.join(10)
    assert [answer.code for answer in answers] == [201]


def test_a_mirror_pod_names_no_account(accounted: Api) -> None:
    mirror = pod("m", node="n1")
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    assert mounts(accounted.create(PODS, mirror)) == [[]]
    mirror["metadata"]["name"] = "n"
    mirror["spec"]["serviceAccountName"] = "default"
    assert accounted.post(PODS, mirror).message.endswith("a mirror pod may not reference service accounts")


def test_an_account_may_limit_its_pods_to_its_own_secrets(accounted: Api) -> None:
    metadata = {"name": "strict", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}
    accounted.create(ACCOUNTS, {"metadata": metadata, "secrets": [{"name": "own"}]})

    def using(secret: str, name: str) -> Document:
        return pod(name, serviceAccountName="strict", volumes=[{"name": "v", "secret": {"secretName": secret}}])

    assert accounted.post(PODS, using("own", "a")).code == 201
    refused = accounted.post(PODS, using("other", "b"))
    assert refused.code == 403
    assert refused.message.endswith(
        'volume with secret.secretName="other" is not allowed because service account strict does not reference that'
        " secret"
    )
