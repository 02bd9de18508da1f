"""Every way kubectl has of looking: discovery, words about fields, forms of output, the proxy."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest

from labctl.kube.resources import BUILTIN, METRICS
from tests.e2e.apiserver import Kubectl
from tests.e2e.documents import WEB, config_map

pytestmark = pytest.mark.etcd


def test_api_resources_lists_every_built_in_kind(kubectl: Kubectl) -> None:
    shown = set(kubectl.run("api-resources", "-o", "name").split())
    assert {resource.qualified for resource in BUILTIN} <= shown
    wide = kubectl.run("api-resources", "--api-group=apps", "-o", "wide")
    assert re.search(
        r"^deployments +deploy +apps/v1 +true +Deployment +\S*create,delete,deletecoll\S* +all$", wide, re.M
    )
    assert (
        "namespaces" in kubectl.run("api-resources", "--namespaced=false", "--verbs=list,watch", "-o", "name").split()
    )


def test_api_versions_lists_the_stable_groups_and_metrics(kubectl: Kubectl) -> None:
    versions = set(kubectl.run("api-versions").split())
    assert {resource.api_version for resource in (*BUILTIN, *METRICS)} == versions


@pytest.mark.parametrize("kind", ["pod", "service", "networkpolicies.networking.k8s.io", "hpa", "clusterrole"])
def test_explain_recurses_through_any_kind(kubectl: Kubectl, kind: str) -> None:
    shown = kubectl.run("explain", kind, "--recursive")
    assert re.search(r"^KIND: +[A-Z]\w+", shown, re.M)
    assert re.search(r"^  metadata\t<ObjectMeta>$", shown, re.M)
    assert re.search(r"^    ownerReferences\t<\[\]OwnerReference>$", shown, re.M)


def test_explain_says_which_field_is_missing(kubectl: Kubectl) -> None:
    assert 'field "nothing" does not exist' in kubectl.run("explain", "pod.spec.nothing", check=False)
    assert "doesn't have a resource type" in kubectl.run("explain", "unicorns", check=False)


def test_explain_reads_the_older_document_too(kubectl: Kubectl) -> None:
    shown = kubectl.run("explain", "pod.spec.containers", "--output=plaintext-openapiv2")
    assert "terminationMessagePath" in shown


@pytest.fixture
def two(kubectl: Kubectl) -> Kubectl:
    """Two ConfigMaps and a Deployment."""
    both = config_map("one", data="size: '2'") + config_map("two", data="size: '1'", label="set: z")
    kubectl.run("create", "-f-", stdin=both)
    kubectl.run("apply", "-f-", stdin=WEB)
    return kubectl


def test_get_sorts_and_prints_as_it_is_told(two: Kubectl) -> None:
    get = ("get", "configmaps", "one", "two")
    sort = "--sort-by=.data.size"
    assert two.run("get", "configmaps", "-l", "set", sort, "-o", "name").split() == ["configmap/two", "configmap/one"]
    rows = two.run("get", "configmaps", "-l", "set", sort, "--no-headers").splitlines()
    assert [row.split()[:2] for row in rows] == [["two", "1"], ["one", "1"]]
    columns = two.run(*get, "-o", "custom-columns=NAME:.metadata.name,SIZE:.data.size").splitlines()
    assert [line.split() for line in columns] == [["NAME", "SIZE"], ["one", "2"], ["two", "1"]]
    template = "{{range .items}}{{.metadata.name}}={{.data.size}} {{end}}"
    assert two.run(*get, "-o", f"go-template={template}") == "one=2 two=1 "
    assert two.path(*get, at=".items[*].data.size") == "2 1"
    assert two.run(*get, "-o", "yaml").startswith("apiVersion: v1\nitems:\n- apiVersion: v1\n")
    labels = two.run(*get, "--show-labels", "--no-headers").splitlines()
    assert [line.split()[-1] for line in labels] == ["set=x", "set=z"]
    assert two.run(*get, "-L", "set").splitlines()[0].split() == ["NAME", "DATA", "AGE", "SET"]


def test_get_selects_by_label_and_field(two: Kubectl) -> None:
    def names(*arguments: str) -> list[str]:
        return two.run("get", "configmaps", "-o", "name", *arguments).split()

    assert names("-l", "set in (x,w)") == ["configmap/one"]
    assert names("-l", "set,set!=x") == ["configmap/two"]
    assert names("-l", "set", "--field-selector=metadata.name!=one") == ["configmap/two"]
    assert "Error from server (BadRequest)" in two.run("get", "pods", "--field-selector=no.such=field", check=False)
    everywhere = two.run("get", "configmaps", "-A", "-l", "set=x", "--no-headers")
    assert [two.namespace, "one"] in [line.split()[:2] for line in everywhere.splitlines()]


def test_get_all_covers_the_category(two: Kubectl) -> None:
    assert two.run("get", "all", "-o", "name").split() == ["service/web", "deployment.apps/web"]


def test_get_names_what_is_missing_as_upstream_does(kubectl: Kubectl) -> None:
    assert kubectl.run("get", "pod", "none", check=False) == 'Error from server (NotFound): pods "none" not found\n'
    assert kubectl.run("get", "pods", check=False) == f"No resources found in {kubectl.namespace} namespace.\n"
    assert kubectl.run("get", "pod", "none", "--ignore-not-found") == ""
    assert "the server doesn't have a resource type" in kubectl.run("get", "unicorns", check=False)
    raw = kubectl.run("get", "--raw", "/apis/no.such/v1", check=False)
    assert raw == "Error from server (NotFound): the server could not find the requested resource\n"


def test_describe_speaks_of_many_kinds(two: Kubectl) -> None:
    two.run("create", "quota", "q", "--hard=pods=1")
    two.run("create", "secret", "generic", "s", "--from-literal=a=b")
    for kind, word in (
        ("deployment/web", "RollingUpdateStrategy:  25% max unavailable, 25% max surge"),
        ("service/web", "NodePort"),
        ("configmap/one", "size:"),
        ("secret/s", "a:  1 bytes"),
        ("quota/q", "Resource"),
        (f"namespace/{two.namespace}", "Status:       Active"),
    ):
        assert word in two.run("describe", kind), kind


def test_version_and_cluster_info_say_who_answers(kubectl: Kubectl) -> None:
    version = json.loads(kubectl.run("version", "-o", "json"))["serverVersion"]
    assert (version["major"], version["minor"]) == ("1", "37")
    assert "Kubernetes control plane" in kubectl.run("cluster-info")
    dump = kubectl.run("cluster-info", "dump", "--namespaces", kubectl.namespace)
    assert '"kind": "NodeList"' in dump


def test_proxy_serves_the_api_to_plain_http(kubectl: Kubectl) -> None:
    kubectl.run("create", "configmap", "c", "--from-literal=a=b")
    with kubectl.follow("proxy", "--port=0") as proxy:
        address = proxy.shows("Starting to serve on").split()[-1]
        url = f"http://{address}/api/v1/namespaces/{kubectl.namespace}/configmaps/c"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert json.load(answer)["data"] == {"a": "b"}
        with urllib.request.urlopen(
            f"http://{address}/api/v1/configmaps?watch=1&timeoutSeconds=1", timeout=10
        ) as lines:
            assert b"".join(lines).count(b'"type":"ADDED"') >= 1
