"""Two Python clients that we did not write: the official one, with its informer and leader election, and lightkube."""

# mypy: allow-untyped-calls
from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kubernetes
import lightkube
import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer
from kubernetes.leaderelection import electionconfig
from kubernetes.leaderelection.leaderelection import LeaderElection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import CascadeType, PatchType

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.e2e.apiserver import ApiServer

pytestmark = pytest.mark.etcd
CLOCK = SystemClock()
api: Any = kubernetes.client  # its types make every field optional
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}


def config_map(name: str, value: str = "b") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}}


@pytest.fixture
def official(apiserver: ApiServer) -> Any:
    """The official client's connection, as the administrator."""
    return kubernetes.config.new_client_from_config(str(apiserver.admin))


@pytest.fixture
def namespace(official: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace named after the test."""
    name = request.node.name.replace("_", "-")[5:60].strip("-")
    core = api.CoreV1Api(official)
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


def test_the_official_client_creates_reads_patches_watches_and_deletes(official: Any, namespace: str) -> None:
    core = api.CoreV1Api(official)
    made = core.create_namespaced_pod(namespace, POD)
    assert (made.metadata.name, made.status.phase) == ("p", "Pending")
    assert [item.metadata.name for item in core.list_namespaced_pod(namespace).items] == ["p"]
    patched = core.patch_namespaced_pod("p", namespace, {"metadata": {"labels": {"a": "b"}}})
    assert patched.metadata.labels == {"a": "b"}
    patched.metadata.annotations = {"c": "d"}
    core.replace_namespaced_pod("p", namespace, patched)
    with pytest.raises(ApiException) as refused:
        core.replace_namespaced_pod("p", namespace, patched)
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    core.delete_namespaced_pod("p", namespace, grace_period_seconds=0)
    seen = [
        (event["type"], event["object"].metadata.name)
        for event in kubernetes.watch.Watch().stream(
            core.list_namespaced_pod, namespace, resource_version=made.metadata.resource_version, timeout_seconds=1
        )
    ]
    assert seen == [("MODIFIED", "p"), ("MODIFIED", "p"), ("DELETED", "p")]


def test_the_official_client_reads_every_kind_of_its_own_in_pages(official: Any, namespace: str) -> None:
    core = api.CoreV1Api(official)
    for number in range(5):
        core.create_namespaced_config_map(namespace, config_map(f"m{number}"))
    names, token = [], None
    for left in (3, 1, None):
        page = core.list_namespaced_config_map(namespace, limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        assert page.metadata.remaining_item_count == left
    assert names == [f"m{number}" for number in range(5)]
    assert not token


def as_service_account(official: Any, namespace: str, apiserver: ApiServer, name: str, role: str) -> Any:
    """A connection with a fresh token of a new ServiceAccount that is bound to a ClusterRole."""
    core, rbac = api.CoreV1Api(official), api.RbacAuthorizationV1Api(official)
    core.create_namespaced_service_account(namespace, {"metadata": {"name": name}})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    rbac.create_namespaced_role_binding(
        namespace, {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference}
    )
    wanted = {"spec": {"expirationSeconds": 600}}
    token = core.create_namespaced_service_account_token(name, namespace, wanted).status.token
    settings = api.Configuration(host=apiserver.url, api_key={"BearerToken": token})
    settings.api_key_prefix = {"BearerToken": "Bearer"}
    settings.ssl_ca_cert = str(apiserver.pki.ca_file)
    return api.ApiClient(settings)


def test_the_official_client_makes_a_token_that_the_server_takes(
    official: Any, namespace: str, apiserver: ApiServer
) -> None:
    robot = api.CoreV1Api(as_service_account(official, namespace, apiserver, "robot", "view"))
    assert robot.list_namespaced_pod(namespace).items == []
    with pytest.raises(ApiException) as refused:
        robot.create_namespaced_pod(namespace, POD)
    assert (refused.value.status, refused.value.reason) == (403, "Forbidden")
    assert f'User \\"system:serviceaccount:{namespace}:robot\\" cannot create resource' in str(refused.value.body)


def test_the_dynamic_client_finds_kinds_by_discovery(official: Any, namespace: str) -> None:
    dynamic = DynamicClient(official)
    deployments = dynamic.resources.get(api_version="apps/v1", kind="Deployment")
    assert "scale" in deployments.subresources
    maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    made = maps.create(namespace=namespace, body=config_map("one"))
    changed = maps.patch(
        name="one", namespace=namespace, body={"data": {"c": "d"}}, content_type="application/merge-patch+json"
    )
    assert changed.data.to_dict() == {"a": "b", "c": "d"}
    assert [item.metadata.name for item in maps.get(namespace=namespace).items] == ["one"]
    maps.delete(name="one", namespace=namespace)
    events = maps.watch(namespace=namespace, resource_version=made.metadata.resourceVersion, timeout=1)
    assert [(event["type"], event["object"].metadata.name) for event in events] == [
        ("MODIFIED", "one"),
        ("DELETED", "one"),
    ]


def test_the_dynamic_client_applies_on_the_server_side(official: Any, namespace: str) -> None:
    maps = DynamicClient(official).resources.get(api_version="v1", kind="ConfigMap")
    maps.server_side_apply(namespace=namespace, body=config_map("one"), field_manager="first")
    with pytest.raises(ApiException) as refused:
        maps.server_side_apply(namespace=namespace, body=config_map("one", "other"), field_manager="second")
    assert refused.value.status == 409
    assert ".data.a" in str(refused.value.body)
    taken = maps.server_side_apply(
        namespace=namespace, body=config_map("one", "other"), field_manager="second", force_conflicts=True
    )
    assert {entry.manager: entry.operation for entry in taken.metadata.managedFields} == {"second": "Apply"}


class Seen:
    """What an informer's handlers were told."""

    def __init__(self, informer: Any) -> None:
        self.told: list[tuple[str, str]] = []
        for kind in (ADDED, MODIFIED, DELETED):
            informer.add_event_handler(kind, lambda item, kind=kind: self.told.append((kind, item.metadata.name)))

    def has(self, kind: str, name: str) -> None:
        wait_for(lambda: (kind, name) in self.told, what=f"{kind} {name} in {self.told}", deadline_s=30, clock=CLOCK)


def test_an_informer_goes_on_after_the_api_server_was_killed(server: ApiServer) -> None:
    """Nothing that happened is missed, nothing is told as new twice, whatever the server forgot."""
    core = api.CoreV1Api(kubernetes.config.new_client_from_config(str(server.admin)))
    for name in ("stays", "goes"):
        core.create_namespaced_config_map("default", config_map(name))
    informer = SharedInformer(core.list_namespaced_config_map, namespace="default", label_selector="")
    seen = Seen(informer)
    informer.start()
    try:
        seen.has(ADDED, "goes")
        core.create_namespaced_config_map("default", config_map("watched"))
        seen.has(ADDED, "watched")
        server.kill()
        server.start()
        core.delete_namespaced_config_map("goes", "default")
        core.create_namespaced_config_map("default", config_map("after"))
        core.patch_namespaced_config_map("stays", "default", {"data": {"a": "new"}})
        seen.has(DELETED, "goes")
        seen.has(ADDED, "after")
        seen.has(MODIFIED, "stays")
        wait_for(
            lambda: informer.cache.get_by_key("default/stays").data == {"a": "new"},
            what="the change in the cache", deadline_s=10, clock=CLOCK,
        )  # fmt: skip
        added = [name for kind, name in seen.told if kind == ADDED and name != "kube-root-ca.crt"]
        assert sorted(added) == ["after", "goes", "stays", "watched"]
    finally:
        threading.Thread(target=informer.stop, daemon=True).start()
        core.create_namespaced_config_map("default", config_map("wakes-the-informer"))


class Candidate:
    """Somebody who wants to lead, with the official client's LeaderElection."""

    def __init__(self, connection: Any, name: str, namespace: str) -> None:
        self.leads, self.stopped = threading.Event(), threading.Event()
        lock = LeaseLock("the-lock", namespace, name)
        lock.api_instance = api.CoordinationV1Api(connection)
        election = electionconfig.Config(
            lock,
            lease_duration=4,
            renew_deadline=3,
            retry_period=1,
            onstarted_leading=self.leads.set,
            onstopped_leading=self.stopped.set,
        )
        threading.Thread(target=LeaderElection(election).run, daemon=True).start()


def test_one_of_two_candidates_leads_and_the_other_takes_over(
    official: Any, namespace: str, apiserver: ApiServer
) -> None:
    """The first stops because its right to the Lease is taken away; the second stops as the namespace goes."""
    rbac, leases = api.RbacAuthorizationV1Api(official), api.CoordinationV1Api(official)
    first = Candidate(as_service_account(official, namespace, apiserver, "first", "admin"), "first", namespace)
    assert first.leads.wait(20)
    second = Candidate(as_service_account(official, namespace, apiserver, "second", "admin"), "second", namespace)
    begin = leases.read_namespaced_lease("the-lock", namespace).spec.renew_time

    def renewed() -> bool:
        lease = leases.read_namespaced_lease("the-lock", namespace)
        assert lease.spec.holder_identity == "first"
        return bool(lease.spec.renew_time > begin)

    wait_for(renewed, what="a renewal by the first", deadline_s=20, clock=CLOCK)
    assert not second.leads.is_set()
    rbac.delete_namespaced_role_binding("first", namespace)
    assert first.stopped.wait(30)
    assert second.leads.wait(30)
    assert leases.read_namespaced_lease("the-lock", namespace).spec.holder_identity == "second"
    rbac.delete_namespaced_role_binding("second", namespace)
    assert second.stopped.wait(30)


@contextmanager
def light(apiserver: ApiServer, namespace: str) -> Iterator[Any]:
    """lightkube, as the administrator."""
    config = lightkube.KubeConfig.from_file(str(apiserver.admin))
    yield lightkube.Client(config=config, namespace=namespace, field_manager="lightkube")


def test_lightkube_creates_lists_patches_and_deletes(apiserver: ApiServer, namespace: str) -> None:
    with light(apiserver, namespace) as client:
        pod = Pod(metadata=ObjectMeta(name="p"), spec=PodSpec(containers=[Container("c", image="x:1")]))
        assert client.create(pod).status.phase == "Pending"
        client.patch(Pod, "p", {"metadata": {"labels": {"a": "b"}}}, patch_type=PatchType.MERGE)
        assert [item.metadata.name for item in client.list(Pod, labels={"a": "b"}, chunk_size=1)] == ["p"]
        assert client.set(Pod, "p", annotations={"c": "d"}).metadata.annotations == {"c": "d"}
        client.delete(Pod, "p", grace_period=0)
        with pytest.raises(lightkube.ApiError) as missing:
            client.get(Pod, "p")
        assert (missing.value.status.code, missing.value.status.reason) == (404, "NotFound")


def test_lightkube_scales_and_cascades(apiserver: ApiServer, namespace: str) -> None:
    with light(apiserver, namespace) as client:
        document = {
            "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD["spec"]},
            },
        }
        client.create(Deployment.from_dict(document))
        scale = Deployment.Scale.from_dict({"metadata": {"name": "web"}, "spec": {"replicas": 4}})
        client.replace(scale, "web")
        assert client.get(Deployment, "web").spec.replicas == 4
        client.delete(Deployment, "web", cascade=CascadeType.FOREGROUND)
        assert client.get(Deployment, "web").metadata.finalizers == ["foregroundDeletion"]


def test_lightkube_applies_and_watches(apiserver: ApiServer, namespace: str) -> None:
    with light(apiserver, namespace) as client:
        applied = client.apply(ConfigMap(metadata=ObjectMeta(name="one"), data={"a": "b"}))
        assert [(e.manager, e.operation) for e in applied.metadata.managedFields] == [("lightkube", "Apply")]
        events = client.watch(ConfigMap, resource_version=applied.metadata.resourceVersion)
        client.apply(ConfigMap(metadata=ObjectMeta(name="one"), data={"a": "c"}))
        kind, item = next(iter(events))
        assert (kind, item.data) == ("MODIFIED", {"a": "c"})
