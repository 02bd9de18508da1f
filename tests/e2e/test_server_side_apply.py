"""Server-side apply with kubectl 1.32 and 1.37, and the official Python client, over a real etcd."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from kubernetes import client, config, dynamic

from tests.e2e.apiserver import Kubectl

pytestmark = pytest.mark.etcd

Document = dict[str, Any]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def web(replicas: int | None = 3, image: str = "lab.local/web:1", labels: Document | None = None) -> str:
    spec: Document = {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": image, "ports": [{"containerPort": 80}]}]},
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    metadata: Document = {"name": "web", **({"labels": labels} if labels else {})}
    return yaml.safe_dump({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})


def owners(document: Document) -> dict[tuple[str, str], Document]:
    return {
        (entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in document["metadata"]["managedFields"]
    }


def shown(kubectl: Kubectl) -> Document:
    found: Document = kubectl.json("get", "deployment", "web", "--show-managed-fields")
    return found


def test_apply_says_serverside_applied_and_owns_what_it_names(kubectl: Kubectl) -> None:
    assert kubectl.run("apply", "--server-side", "-f-", stdin=web()) == "deployment.apps/web serverside-applied\n"
    found = shown(kubectl)
    assert set(owners(found)) == {("kubectl", "Apply")}
    assert LAST_APPLIED not in found["metadata"].get("annotations", {})
    before = found["metadata"]["resourceVersion"]
    kubectl.run("apply", "--server-side", "-f-", stdin=web())
    assert shown(kubectl)["metadata"]["resourceVersion"] == before


def test_managed_fields_are_shown_on_request_only(kubectl: Kubectl) -> None:
    kubectl.run("apply", "--server-side", "-f-", stdin=web())
    assert "managedFields" not in kubectl.run("get", "deployment", "web", "-o", "yaml")
    assert "manager: kubectl" in kubectl.run("get", "deployment", "web", "-o", "yaml", "--show-managed-fields")


def test_what_is_no_longer_in_the_file_goes(kubectl: Kubectl) -> None:
    kubectl.run("apply", "--server-side", "-f-", stdin=web(labels={"a": "1", "b": "2"}))
    kubectl.run("apply", "--server-side", "-f-", stdin=web(labels={"a": "1"}))
    assert shown(kubectl)["metadata"]["labels"] == {"a": "1"}


def test_a_conflict_tells_what_to_do_and_force_does_it(kubectl: Kubectl) -> None:
    kubectl.run("apply", "--server-side", "-f-", stdin=web())
    other = ("apply", "--server-side", "--field-manager=other", "-f-")
    said = kubectl.run(*other, stdin=web(replicas=7), check=False)
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .spec.replicas' in said
    assert "--force-conflicts" in said
    kubectl.run(*other, "--force-conflicts", stdin=web(replicas=7))
    found = shown(kubectl)
    assert found["spec"]["replicas"] == 7
    assert "f:replicas" not in owners(found)["kubectl", "Apply"]["f:spec"]
    # The file that no longer names replicas applies without a fight and leaves them to their owner.
    kubectl.run("apply", "--server-side", "-f-", stdin=web(replicas=None))
    assert shown(kubectl)["spec"]["replicas"] == 7


def test_imperative_commands_are_other_owners(kubectl: Kubectl) -> None:
    kubectl.run("apply", "--server-side", "-f-", stdin=web())
    kubectl.run("scale", "deployment/web", "--replicas=5")
    kubectl.run("set", "image", "deployment/web", "web=lab.local/web:2")
    kubectl.run("label", "deployment", "web", "tier=front")
    managers = {manager for manager, _ in owners(shown(kubectl))}
    assert {"kubectl", "kubectl-set", "kubectl-label"} <= managers
    said = kubectl.run("apply", "--server-side", "-f-", stdin=web(), check=False)
    assert "Apply failed with 2 conflicts" in said
    assert '"kubectl-set" using apps/v1' in said
    assert '- .spec.template.spec.containers[name="web"].image' in said


def test_client_side_apply_moves_to_server_side_apply(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f-", stdin=web(labels={"a": "1", "b": "2"}))
    assert '"replicas":3' in kubectl.run("apply", "view-last-applied", "deployment/web", "-o", "json").replace(" ", "")
    assert ("kubectl-client-side-apply", "Update") in owners(shown(kubectl))
    kubectl.run("apply", "--server-side", "-f-", stdin=web(replicas=4, labels={"a": "1"}))
    found = shown(kubectl)
    assert ("kubectl-client-side-apply", "Update") not in owners(found)
    assert (found["spec"]["replicas"], found["metadata"]["labels"]) == (4, {"a": "1"})
    # And back again: the annotation was kept up to date.
    assert '"replicas":4' in found["metadata"]["annotations"][LAST_APPLIED]
    kubectl.run("apply", "-f-", stdin=web(replicas=4))
    assert "labels" not in shown(kubectl)["metadata"]


def test_diff_shows_what_a_server_side_apply_would_change(kubectl: Kubectl) -> None:
    kubectl.run("apply", "--server-side", "-f-", stdin=web())
    assert kubectl.run("diff", "--server-side", "-f-", stdin=web()) == ""
    said = kubectl.run("diff", "--server-side", "-f-", stdin=web(replicas=5), check=False)
    assert "-  replicas: 3" in said
    assert "+  replicas: 5" in said
    assert shown(kubectl)["spec"]["replicas"] == 3


def test_a_dry_run_says_so_and_stores_nothing(kubectl: Kubectl) -> None:
    said = kubectl.run("apply", "--server-side", "--dry-run=server", "-f-", stdin=web())
    assert said == "deployment.apps/web serverside-applied (server dry run)\n"
    assert "NotFound" in kubectl.run("get", "deployment", "web", check=False)


def test_a_field_that_does_not_exist_is_refused(kubectl: Kubectl) -> None:
    said = kubectl.run("apply", "--server-side", "-f-", stdin=web().replace("replicas: 3", "replica: 3"), check=False)
    assert ".spec.replica: field not declared in schema" in said


def test_two_teams_share_an_object(kubectl: Kubectl) -> None:
    team = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: shared}}\ndata: {{{}}}\n"
    for name in ("one", "two"):
        kubectl.run(
            "apply", "--server-side", f"--field-manager={name}", "-f-", stdin=team.format(f"{name}: '1', both: '1'")
        )
    assert set(kubectl.json("get", "configmap", "shared")["data"]) == {"one", "two", "both"}
    kubectl.run("apply", "--server-side", "--field-manager=one", "-f-", stdin=team.format("one: '1'"))
    assert kubectl.json("get", "configmap", "shared")["data"] == {"one": "1", "two": "1", "both": "1"}
    kubectl.run("apply", "--server-side", "--field-manager=two", "-f-", stdin=team.format("two: '1'"))
    assert kubectl.json("get", "configmap", "shared")["data"] == {"one": "1", "two": "1"}


def test_status_is_applied_through_its_subresource(kubectl: Kubectl) -> None:
    kubectl.run("apply", "--server-side", "-f-", stdin=web())
    status = yaml.safe_dump(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "status": {"conditions": [{"type": "Testing", "status": "True", "reason": "Why"}]},
        }
    )
    kubectl.run("apply", "--server-side", "--subresource=status", "--field-manager=tester", "-f-", stdin=status)
    found = shown(kubectl)
    assert found["status"]["conditions"][0]["type"] == "Testing"
    (entry,) = [entry for entry in found["metadata"]["managedFields"] if entry["manager"] == "tester"]
    assert (entry["operation"], entry["subresource"]) == ("Apply", "status")


def test_the_python_client_applies(kubectl: Kubectl) -> None:
    loaded = config.new_client_from_config(str(kubectl.kubeconfig))  # type: ignore[no-untyped-call]
    with loaded:
        known = dynamic.DynamicClient(loaded).resources  # type: ignore[no-untyped-call]
        resources = known.get(api_version="apps/v1", kind="Deployment")
        body = yaml.safe_load(web())
        made = resources.server_side_apply(body=body, name="web", namespace=kubectl.namespace, field_manager="python")
        assert made.spec.replicas == 3
        body["spec"]["replicas"] = 4
        with pytest.raises(dynamic.exceptions.ConflictError):
            resources.server_side_apply(body=body, name="web", namespace=kubectl.namespace, field_manager="rival")
        taken = resources.server_side_apply(
            body=body, name="web", namespace=kubectl.namespace, field_manager="rival", force_conflicts=True
        )
        assert taken.spec.replicas == 4
        typed: Any = client.AppsV1Api(loaded).read_namespaced_deployment("web", kubectl.namespace)
        assert {entry.manager for entry in typed.metadata.managed_fields} == {"python", "rival"}
