"""What a node's credentials reach: its own Node, Lease and pods, and what those pods name; nothing of other nodes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import MAPS, PODS, config_map, pod

Document = dict[str, Any]

NODES = "/api/v1/nodes"
SECRETS = "/api/v1/namespaces/default/secrets"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
TOKEN = "/api/v1/namespaces/default/serviceaccounts/robot/token"
UNRELATED = "no relationship found between node 'n1' and this object"


def node(api: Api, name: str) -> Api:
    return api.as_user(f"system:node:{name}", "system:nodes")


@pytest.fixture
def n1(api: Api) -> Api:
    """A node's credentials; two nodes stand, each with a pod that names a secret."""
    for name in ("n1", "n2"):
        api.create(NODES, {"metadata": {"name": name}})
        api.create(SECRETS, {"metadata": {"name": f"of-{name}"}, "stringData": {}})
        volume = {"name": "v", "secret": {"secretName": f"of-{name}"}}
        api.create(PODS, pod(f"on-{name}", node=name, volumes=[volume]))
    return node(api, "n1")


def test_a_node_reads_what_its_pods_name_and_nothing_else(api: Api, n1: Api) -> None:
    assert n1.get(f"{SECRETS}/of-n1").code == 200
    refused = n1.get(f"{SECRETS}/of-n2")
    assert refused.code == 403
    assert refused.message == (
        'secrets "of-n2" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the'
        f' namespace "default": {UNRELATED}'
    )
    assert n1.get(SECRETS).code == 403
    assert n1.get("/api/v1/secrets").code == 403
    assert n1.get(f"{SECRETS}?fieldSelector=metadata.name=of-n1").code == 200
    assert n1.delete(f"{SECRETS}/of-n1").code == 403
    api.delete(f"{PODS}/on-n1?gracePeriodSeconds=0")
    assert n1.get(f"{SECRETS}/of-n1").code in {200, 403}
    api.create(PODS, pod("again", node="n1", imagePullSecrets=[{"name": "of-n2"}]))
    assert n1.get(f"{SECRETS}/of-n2").code == 200


@pytest.mark.parametrize(
    ("spec", "reach"),
    [
        ({"volumes": [{"name": "v", "configMap": {"name": "m"}}]}, True),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "m"}}]}}]}, True),
        ({"containers": [{"name": "c", "image": "i", "envFrom": [{"configMapRef": {"name": "m"}}]}]}, True),
        (
            {
                "initContainers": [
                    {
                        "name": "i",
                        "image": "i",
                        "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}],
                    }
                ]
            },
            True,
        ),
        ({"volumes": [{"name": "v", "configMap": {"name": "other"}}]}, False),
        ({}, False),
    ],
)
def test_every_way_to_name_a_config_map_counts(api: Api, spec: Document, reach: bool) -> None:
    api.create(MAPS, config_map("m"))
    api.create(PODS, pod("user", node="n1", **spec))
    assert (node(api, "n1").get(f"{MAPS}/m").code == 200) is reach
    assert node(api, "n2").get(f"{MAPS}/m").code == 403


def test_a_claim_leads_to_its_volume_and_the_secret_of_that(api: Api) -> None:
    claims = "/api/v1/namespaces/default/persistentvolumeclaims"
    csi = {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "key", "namespace": "default"}}
    common = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}
    api.create("/api/v1/persistentvolumes", {"metadata": {"name": "pv"}, "spec": {**common, "csi": csi}})
    request = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "pv"}
    api.create(claims, {"metadata": {"name": "data"}, "spec": request})
    api.create(SECRETS, {"metadata": {"name": "key"}})
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    api.create(PODS, pod("user", node="n1", volumes=[volume]))
    for path in (f"{claims}/data", "/api/v1/persistentvolumes/pv", f"{SECRETS}/key"):
        assert node(api, "n1").get(path).code == 200
        assert node(api, "n2").get(path).code == 403


def test_a_node_sees_its_own_pods_and_its_own_node(n1: Api) -> None:
    assert n1.get(f"{PODS}/on-n1").code == 200
    assert n1.get(f"{PODS}/on-n2").code == 403
    assert n1.get("/api/v1/pods?fieldSelector=spec.nodeName=n1").code == 200
    assert n1.get("/api/v1/pods?fieldSelector=spec.nodeName=n2").code == 403
    assert n1.get("/api/v1/pods").message.endswith("can only list/watch pods with spec.nodeName field selector")
    assert n1.get(f"{NODES}/n1").code == 200
    assert n1.get(f"{NODES}?fieldSelector=metadata.name=n1").code == 200
    assert n1.get(f"{NODES}/n2").message.endswith("node 'n1' cannot read 'n2', only its own Node object")
    assert n1.get(NODES).message.endswith("node 'n1' cannot read all nodes, only its own Node object")
    assert n1.get("/api/v1/namespaces/default/services").code == 200
    assert n1.get("/api/v1/namespaces").code == 403


def test_a_node_writes_its_own_status_and_that_of_its_pods(n1: Api) -> None:
    status = {"status": {"phase": "Running"}}
    assert n1.patch(f"{PODS}/on-n1/status", status).code == 200
    refused = n1.patch(f"{PODS}/on-n2/status", status)
    assert (refused.code, refused.message) == (
        403,
        'pods "on-n2" is forbidden: node "n1" can only update pod status for pods with spec.nodeName set to itself',
    )
    assert n1.patch(f"{PODS}/on-n1/status", {"metadata": {"labels": {"a": "b"}}}).code == 403
    assert n1.patch(f"{PODS}/on-n1", {"metadata": {"labels": {"a": "b"}}}).code == 403
    assert n1.patch(f"{NODES}/n1/status", {"status": {"phase": "Running"}}).code == 200
    other = n1.patch(f"{NODES}/n2/status", {"status": {"phase": "Running"}})
    assert (other.code, other.message) == (
        403,
        'nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"',
    )
    assert n1.delete(f"{PODS}/on-n2").code == 403
    assert n1.post(f"{PODS}/on-n2/eviction", {"metadata": {"name": "on-n2"}}).code == 403
    assert n1.delete(f"{PODS}/on-n1").code == 200
    assert n1.delete(f"{NODES}/n1").code == 403


def test_a_node_keeps_its_lease_alone(n1: Api) -> None:
    spec = {"spec": {"holderIdentity": "n1"}}
    assert n1.post(LEASES, {"metadata": {"name": "n2"}, **spec}).code == 403
    assert n1.post(LEASES, {"metadata": {"name": "n1"}, **spec}).code == 201
    assert n1.patch(f"{LEASES}/n1", spec).code == 200
    assert n1.patch(f"{LEASES}/n2", spec).code == 403
    elsewhere = LEASES.replace("kube-node-lease", "kube-system")
    assert n1.post(elsewhere, {"metadata": {"name": "n1"}, **spec}).code == 403
    assert n1.get(f"{elsewhere}/kube-scheduler").code == 403


def test_a_node_sets_the_labels_that_are_a_nodes_own(api: Api) -> None:
    n1 = node(api, "n1")
    own = {"kubernetes.io/hostname": "n1", "node.kubernetes.io/kind": "x", "zone": "a", "example.com/rack": "7"}
    for label in ("node-restriction.kubernetes.io/x", "node-role.kubernetes.io/master", "x.k8s.io/y"):
        refused = n1.post(NODES, {"metadata": {"name": "n1", "labels": {**own, label: ""}}})
        assert refused.code == 403
        assert refused.message.endswith(f"is not allowed to set the following labels: {label}")
    assert n1.post(NODES, {"metadata": {"name": "n1", "labels": own}}).code == 201
    assert n1.patch(f"{NODES}/n1", {"metadata": {"labels": {"zone": "b"}}}).code == 200
    assert n1.patch(f"{NODES}/n1", {"metadata": {"labels": {"node-role.kubernetes.io/x": ""}}}).code == 403
    assert n1.patch(f"{NODES}/n1", {"spec": {"taints": None}}).message.endswith("is not allowed to modify taints")
    assert n1.post(NODES, {"metadata": {"name": "n2"}}).code == 403


def test_a_node_makes_mirror_pods_of_its_own_alone(n1: Api) -> None:
    uid = n1.get(f"{NODES}/n1").document["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": True}
    mirror = pod("m", node="n1")
    assert n1.post(PODS, mirror).message.endswith('node "n1" can only create mirror pods')
    mirror["metadata"] |= {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}
    secret = {"name": "v", "secret": {"secretName": "of-n2"}}
    greedy = {**mirror, "spec": {**mirror["spec"], "volumes": [secret]}}
    assert n1.post(PODS, greedy).message.endswith('node "n1" can not create pods that reference secrets')
    assert n1.post(PODS, {**mirror, "spec": {**mirror["spec"], "nodeName": "n2"}}).code == 403
    assert n1.post(PODS, mirror).code == 201


def test_who_is_in_the_nodes_group_without_a_nodes_name_gets_nothing(api: Api, n1: Api) -> None:
    del n1
    assert api.as_user("n1", "system:nodes").get(f"{SECRETS}/of-n1").code == 403
    assert api.as_user("system:node:n1").get(f"{SECRETS}/of-n1").code == 403
