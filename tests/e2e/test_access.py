"""Who may do what, as kubectl and plain connections find it: a real API server process over a real etcd.

Credentials are a lab's own where that matters: what a worker's certificates reach is tried, not read off a table.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import urllib3
import yaml

from agents.kubelet.answers import Routes, Sources
from agents.kubelet.server import Server as KubeletServer
from agents.kubelet.server import Tls as KubeletTls
from labctl.kube.client import Client
from labctl.kube.errors import Forbidden
from labctl.kube.resources import CONFIG_MAPS, LEASES, NODES, PODS, SECRETS
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from labctl.vm.pki import Pki as LabPki
from labctl.vm.topology import Machine, Topology
from master.store.etcd import Tls
from tests.e2e import clients
from tests.e2e.apiserver import ApiServer, Kubectl
from tests.e2e.certs import Pki
from tests.etcd import Etcd

CLOCK = SystemClock()
ROBOT = "system:serviceaccount:{}:robot"


def eventually(probe: Callable[[], Any], what: str) -> Any:
    """What `probe` returns once it is true: a grant reaches the authorizer a moment after it was written."""
    return wait_for(probe, what=what, deadline_s=10, clock=CLOCK, every_s=0.1)


def fetched(
    server: ApiServer, path: str, *, certificate: tuple[Path, Path] | None = None, token: str = ""
) -> tuple[int, Any]:
    """Status and document of a GET over a connection of its own."""
    context = ssl.create_default_context(cafile=str(server.pki.ca_file))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib3.PoolManager(ssl_context=context, retries=False, timeout=10) as http:
        answer = http.request("GET", server.url + path, headers=headers)
        return answer.status, json.loads(answer.data)


# -- kubectl


def test_roles_that_kubectl_makes_count(kubectl: Kubectl) -> None:
    kubectl.run("create", "serviceaccount", "robot")
    robot = ROBOT.format(kubectl.namespace)
    assert kubectl.run("auth", "can-i", "list", "pods", f"--as={robot}", check=False).strip().startswith("no")
    kubectl.run("create", "role", "reader", "--verb=get,list", "--resource=pods,configmaps")
    kubectl.run("create", "rolebinding", "robot-reads", "--role=reader", f"--serviceaccount={kubectl.namespace}:robot")

    def can(*wanted: str) -> bool:
        return kubectl.run("auth", "can-i", *wanted, f"--as={robot}", check=False).strip() == "yes"

    eventually(lambda: can("list", "pods"), "the binding to count")
    assert can("get", "configmaps/any")
    assert not can("delete", "pods")
    assert not can("list", "pods", "--namespace=kube-system")
    listed = kubectl.run("auth", "can-i", "--list", f"--as={robot}")
    assert "pods" in listed
    assert "/openapi/*" in listed
    kubectl.run("delete", "rolebinding", "robot-reads")
    eventually(lambda: not can("list", "pods"), "the binding to be gone")


def test_cluster_roles_of_every_form_are_made(kubectl: Kubectl) -> None:
    name = kubectl.namespace
    kubectl.run("create", "clusterrole", f"{name}-a", "--verb=get", "--resource=pods", "--resource-name=one")
    kubectl.run("create", "clusterrole", f"{name}-b", "--verb=get", "--non-resource-url=/metrics,/logs/*")
    kubectl.run("create", "clusterrole", f"{name}-c", f"--aggregation-rule=lab.io/{name}=true")
    kubectl.run("create", "clusterrolebinding", f"{name}-b", f"--clusterrole={name}-b", "--group=crew", "--user=ada")
    rules = kubectl.json("get", "clusterrole", f"{name}-a")["rules"]
    assert rules == [{"apiGroups": [""], "resourceNames": ["one"], "resources": ["pods"], "verbs": ["get"]}]

    def reached() -> bool:
        return "apiserver_request_total" in kubectl.run("get", "--raw=/metrics", "--as=ada", check=False)

    eventually(reached, "the metrics, as ada")
    refused = kubectl.run("get", "--raw=/metrics", "--as=eve", check=False)
    assert 'User "eve" cannot get path "/metrics"' in refused
    kubectl.run("delete", "clusterrolebinding", f"{name}-b")
    kubectl.run("delete", "clusterrole", f"{name}-a", f"{name}-b", f"{name}-c")


def test_reconcile_brings_roles_to_what_a_file_says(kubectl: Kubectl) -> None:
    group = "rbac.authorization.k8s.io"
    head = {"apiVersion": f"{group}/v1", "metadata": {"name": "r", "namespace": kubectl.namespace}}
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    role = {**head, "kind": "Role", "rules": [rule]}
    subject = {"apiGroup": group, "kind": "User", "name": "ada"}
    binding = {**head, "kind": "RoleBinding", "roleRef": {"apiGroup": group, "kind": "Role", "name": "r"}}
    text = yaml.safe_dump_all([role, {**binding, "subjects": [subject]}])
    assert "reconciled" in kubectl.run("auth", "reconcile", "-f", "-", stdin=text)
    kubectl.run("patch", "role", "r", "--type=merge", "-p", '{"rules":[]}')
    assert "reconciled" in kubectl.run("auth", "reconcile", "-f", "-", stdin=text)
    assert kubectl.json("get", "role", "r")["rules"] == [rule]
    subjects = kubectl.json("get", "rolebinding", "r")["subjects"]
    assert [entry["name"] for entry in subjects] == ["ada"]


def test_kubectl_says_who_one_is(kubectl: Kubectl) -> None:
    mine = kubectl.json("auth", "whoami")["status"]["userInfo"]
    assert (mine["username"], mine["groups"][0]) == ("kubernetes-admin", "system:masters")
    acting = kubectl.json("auth", "whoami", "--as=ada", "--as-group=crew", "--as-uid=7")["status"]["userInfo"]
    assert acting == {"username": "ada", "uid": "7", "groups": ["crew", "system:authenticated"]}


def test_nobody_makes_a_role_larger_than_their_own(kubectl: Kubectl) -> None:
    kubectl.run("create", "rolebinding", "boss", "--clusterrole=admin", "--user=gus")
    made = ["create", "role", "less", "--verb=get", "--resource=pods", "--as=gus"]
    eventually(lambda: "created" in kubectl.run(*made, check=False), "gus to be admin here")
    refused = kubectl.run(*["create", "role", "more", "--verb=get", "--resource=nodes", "--as=gus"], check=False)
    assert 'user "gus" (groups=["system:authenticated"]) is attempting to grant RBAC permissions' in refused
    assert '{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}' in refused
    bound = kubectl.run(
        *["create", "rolebinding", "up", "--clusterrole=cluster-admin", "--user=gus", "--as=gus"], check=False
    )
    assert "not currently held" in bound


def test_a_token_from_kubectl_works_until_its_account_is_gone(kubectl: Kubectl, apiserver: ApiServer) -> None:
    kubectl.run("create", "serviceaccount", "robot")
    token = kubectl.run("create", "token", "robot", "--duration=15m").strip()
    code, document = fetched(apiserver, f"/api/v1/namespaces/{kubectl.namespace}/pods", token=token)
    assert (code, document["message"]) == (
        403,
        f'pods is forbidden: User "{ROBOT.format(kubectl.namespace)}" cannot list resource "pods" in API group ""'
        f' in the namespace "{kubectl.namespace}"',
    )
    assert fetched(apiserver, "/api", token=token)[0] == 200
    too_short = kubectl.run("create", "token", "robot", "--duration=1m", check=False)
    assert "may not specify a duration less than 10 minutes" in too_short
    kubectl.run("delete", "serviceaccount", "robot")
    eventually(lambda: fetched(apiserver, "/api", token=token)[0] == 401, "the token to be worthless")


def test_the_default_roles_are_there_with_upstreams_marks(kubectl: Kubectl) -> None:
    roles = kubectl.json("get", "clusterroles", "-l", "kubernetes.io/bootstrapping=rbac-defaults")["items"]
    names = {role["metadata"]["name"] for role in roles}
    assert {"cluster-admin", "admin", "edit", "view", "system:node", "system:kube-scheduler"} <= names
    assert "system:controller:deployment-controller" in names
    described = kubectl.run("describe", "clusterrole", "view")
    assert "deployments.apps" in described


# -- credentials that are no good


def test_credentials_that_are_no_good_are_unauthorized(apiserver: ApiServer, tmp_path: Path) -> None:
    for token in ("x.y.z", "nonsense", "eyJhbGciOiJub25lIn0.e30."):
        code, document = fetched(apiserver, "/api", token=token)
        assert (code, document["reason"], document["message"]) == (401, "Unauthorized", "Unauthorized")
    expired = apiserver.pki.issue("expired", "kubernetes-admin", "system:masters", days=-1)
    code, document = fetched(apiserver, "/api", certificate=expired)
    assert (code, document["reason"]) == (401, "Unauthorized")
    foreign = Pki(tmp_path / "elsewhere").issue("admin", "kubernetes-admin", "system:masters")
    with pytest.raises(urllib3.exceptions.HTTPError):  # a foreign authority's ends in the handshake
        fetched(apiserver, "/api", certificate=foreign)


def test_nobody_in_particular_reaches_health_and_version_alone(apiserver: ApiServer) -> None:
    assert fetched(apiserver, "/version")[0] == 200
    for path in ("/api", "/apis", "/openapi/v3", "/metrics", "/api/v1/namespaces", "/livez/etcd"):
        code, document = fetched(apiserver, path)
        assert (code, document["reason"]) == (403, "Forbidden")


# -- a worker's credentials


@pytest.fixture
def two_workers(apiserver: ApiServer) -> tuple[Client, Client]:
    """The administrator, and a kubelet of worker1; worker2 has a pod with a secret of its own."""
    admin, kubelet = apiserver.client("admin"), apiserver.client("kubelet")
    for name in ("worker1", "worker2"):
        if name not in {document["metadata"]["name"] for document in map(msgspec.json.decode, admin.list(NODES).items)}:
            admin.create(NODES, {"metadata": {"name": name}})
            admin.create(SECRETS, {"metadata": {"name": f"of-{name}"}}, "default")
            volume = {"name": "v", "secret": {"secretName": f"of-{name}"}}
            spec = {"nodeName": name, "containers": [{"name": "c", "image": "i"}], "volumes": [volume]}
            admin.create(PODS, {"metadata": {"name": f"on-{name}"}, "spec": spec}, "default")
    return admin, kubelet


def test_a_worker_cannot_read_what_is_another_nodes(two_workers: tuple[Client, Client]) -> None:
    _, kubelet = two_workers
    assert kubelet.get(SECRETS, "of-worker1", "default")["metadata"]["name"] == "of-worker1"
    with pytest.raises(Forbidden, match="no relationship found between node 'worker1' and this object"):
        kubelet.get(SECRETS, "of-worker2", "default")
    for attempt in (
        lambda: kubelet.list(SECRETS, "default"),
        lambda: kubelet.list(SECRETS),
        lambda: kubelet.list(CONFIG_MAPS, "kube-system"),
        lambda: kubelet.list(PODS),
        lambda: kubelet.get(PODS, "on-worker2", "default"),
        lambda: kubelet.get(NODES, "worker2"),
        lambda: kubelet.list(PODS, field_selector="spec.nodeName=worker2"),
    ):
        with pytest.raises(Forbidden):
            attempt()


def test_a_worker_cannot_write_what_is_another_nodes(two_workers: tuple[Client, Client]) -> None:
    admin, kubelet = two_workers
    status: Mapping[str, Any] = {"status": {"phase": "Running"}}
    kubelet.patch(NODES, "worker1", status, subresource="status")
    kubelet.patch(PODS, "on-worker1", status, "default", subresource="status")
    before = admin.get(NODES, "worker2"), admin.get(PODS, "on-worker2", "default")
    lease = {"metadata": {"name": "worker2"}, "spec": {"holderIdentity": "worker1"}}
    attempts: tuple[Callable[[], Any], ...] = (
        lambda: kubelet.patch(NODES, "worker2", status, subresource="status"),
        lambda: kubelet.patch(PODS, "on-worker2", status, "default", subresource="status"),
        lambda: kubelet.delete(PODS, "on-worker2", "default"),
        lambda: kubelet.delete(NODES, "worker2"),
        lambda: kubelet.create(LEASES, lease, "kube-node-lease"),
        lambda: kubelet.patch(
            NODES, "worker1", {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}
        ),
        lambda: kubelet.patch(NODES, "worker1", {"spec": {"taints": []}}),
        lambda: kubelet.create(SECRETS, {"metadata": {"name": "mine"}}, "default"),
    )
    for attempt in attempts:
        with pytest.raises(Forbidden):
            attempt()
    assert (admin.get(NODES, "worker2"), admin.get(PODS, "on-worker2", "default")) == before


def _lab(folder: Path) -> LabPki:
    """The certificates of a lab with one master and two workers on loopback."""
    sizes: Any = {"mac": "", "cpus": 1, "memory_mib": 1024, "disk_gib": 4, "address": "127.0.0.1"}
    machines = (
        Machine(name="master1", role="master", **sizes),
        Machine(name="worker1", role="worker", **sizes),
        Machine(name="worker2", role="worker", **sizes),
    )
    topology = Topology(
        lab="t", provider="lxc", profile="fast", box="", network_cidr="127.0.0.0/24", host_address="127.0.0.1",
        bridge="b", cluster_cidr="10.244.0.0/16", service_cidr="10.96.0.0/12", machines=machines,
    )  # fmt: skip
    pki = LabPki(folder)
    pki.issue(topology)
    return pki


def _get(url: str, pki: LabPki, name: str, *, ca: str = "ca.crt") -> tuple[int, bytes]:
    """Status and body, shown the certificate called `name`; "" for none."""
    context = ssl.create_default_context(cafile=str(pki.path(ca)))
    if name:
        context.load_cert_chain(pki.path(f"{name}.crt"), pki.path(f"{name}.key"))
    with urllib3.PoolManager(ssl_context=context, retries=False, timeout=10) as http:
        answer = http.request("GET", url)
        return answer.status, answer.data


WORKERS_OWN = ["node-worker1", "kubelet-worker1", "proxy", "admin", "apiserver-kubelet-client", ""]


def test_etcd_takes_no_certificate_but_the_api_servers(tmp_path: Path) -> None:
    pki = _lab(tmp_path)

    def shown(name: str) -> Tls:
        return Tls(str(pki.path("etcd/ca.crt")), str(pki.path(f"{name}.crt")), str(pki.path(f"{name}.key")))

    etcd = Etcd(tmp_path / "etcd", tls=shown("etcd/client"), server=shown("etcd/server-master1"))
    etcd.start()
    try:
        assert _get(f"{etcd.url}/version", pki, "etcd/client", ca="etcd/ca.crt")[0] == 200
        for name in WORKERS_OWN:
            with pytest.raises(urllib3.exceptions.HTTPError):
                _get(f"{etcd.url}/version", pki, name, ca="etcd/ca.crt")
    finally:
        etcd.kill()


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[tuple[str, LabPki]]:
    """worker2's kubelet server, with a lab's certificates."""
    pki = _lab(tmp_path)
    sources = Sources(containers=list, pods=list, summary=dict, healthy=lambda: "", clock=SystemClock())
    tls = KubeletTls(*(str(pki.path(name)) for name in ("kubelet-worker2.crt", "kubelet-worker2.key", "ca.crt")))
    server = KubeletServer(Routes(sources), tls, address="127.0.0.1", port=0).start()
    yield f"https://127.0.0.1:{server.port}", pki
    server.stop()


def test_a_kubelets_server_takes_no_certificate_but_the_api_servers(kubelet: tuple[str, LabPki]) -> None:
    url, pki = kubelet
    assert _get(f"{url}/pods", pki, "apiserver-kubelet-client")[0] == 200
    for name in ("node-worker1", "proxy", "admin", "scheduler", "controllers"):
        assert _get(f"{url}/pods", pki, name)[0] == 403
    for name in ("", "kubelet-worker1", "etcd/client", "apiserver"):  # none, for servers, of another authority
        with pytest.raises(urllib3.exceptions.HTTPError):
            _get(f"{url}/pods", pki, name)


# -- the audit log


def test_the_audit_log_tells_of_every_request(tmp_path: Path) -> None:
    server = ApiServer(tmp_path)
    path, config = tmp_path / "audit.log", tmp_path / "pki" / "apiserver.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"audit_log_file": str(path)}))
    kubectl = Kubectl(clients.program("kubectl", sorted(clients.WHEELS)[-1]), server.admin, tmp_path)
    server.start()
    try:
        kubectl.run("create", "configmap", "told", "--from-literal=a=b")
        kubectl.run("get", "secrets", "--as=eve", check=False)

        def events() -> list[Any]:
            return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

        def told(name: str, verb: str) -> Any:
            found = [event for event in events() if event["verb"] == verb]
            return [event for event in found if event.get("objectRef", {}).get("resource") == name]

        (made,) = eventually(lambda: told("configmaps", "create"), "the event")
        assert made["user"]["username"] == "kubernetes-admin"
        assert made["responseStatus"]["code"] == 201
        assert made["userAgent"].startswith("kubectl/")
        assert made["sourceIPs"] == ["127.0.0.1"]
        refused = eventually(lambda: told("secrets", "list"), "the event")[0]
        assert (refused["impersonatedUser"]["username"], refused["responseStatus"]["code"]) == ("eve", 403)
    finally:
        server.kill()
