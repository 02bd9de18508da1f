"""What kubectl 1.32 and 1.37 print when the API server refuses, admits or warns: upstream's own words."""

from __future__ import annotations

import pytest

from tests.e2e.apiserver import Kubectl

pytestmark = pytest.mark.etcd

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: x}
spec:
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec:
      containers:
      - name: c
        image: "lab.local/x:1"
        resources: {requests: {cpu: "0.5", memory: 1024Mi}}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec: {containers: [{name: c, image: "lab.local/x:1"}]}
"""
QUOTA = """
apiVersion: v1
kind: ResourceQuota
metadata: {name: q}
spec: {hard: {pods: "1"}}
"""


def test_a_missing_image_is_named_by_its_path(kubectl: Kubectl) -> None:
    told = kubectl.run("create", "-f-", stdin=DEPLOYMENT.replace('image: "lab.local/x:1"', "tty: true"), check=False)
    assert told == ('The Deployment "x" is invalid: spec.template.spec.containers[0].image: Required value\n')


def test_several_errors_are_a_list(kubectl: Kubectl) -> None:
    body = DEPLOYMENT.replace('image: "lab.local/x:1"', "tty: true").replace(
        "app: x}}\n  template", "app: z}}\n  template"
    )
    told = kubectl.run("create", "-f-", stdin=body, check=False)
    assert told == (
        'The Deployment "x" is invalid: \n'
        '* spec.template.metadata.labels: Invalid value: {"app":"x"}: `selector` does not match template `labels`\n'
        "* spec.template.spec.containers[0].image: Required value\n"
    )


def test_quantities_come_back_in_canonical_form(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f-", stdin=DEPLOYMENT)
    spec = kubectl.json("get", "deployment", "x")["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
    kubectl.run("apply", "-f-", stdin=DEPLOYMENT)
    assert kubectl.json("get", "deployment", "x")["metadata"]["generation"] == 1


def test_what_may_not_change_is_told(kubectl: Kubectl) -> None:
    kubectl.run("create", "-f-", stdin=POD % "p")
    told = kubectl.run("patch", "pod", "p", "-p", '{"spec":{"nodeName":"n"}}', check=False)
    assert told.startswith(
        'The Pod "p" is invalid: spec: Forbidden: pod updates may not change fields other than'
        " `spec.containers[*].image`,"
    )
    assert kubectl.run("set", "image", "pod/p", "c=lab.local/x:2") == "pod/p image updated\n"


def test_an_exceeded_quota_is_told_with_its_figures(kubectl: Kubectl) -> None:
    kubectl.run("create", "-f-", stdin=QUOTA)
    assert kubectl.run("create", "-f-", stdin=POD % "a") == "pod/a created\n"
    told = kubectl.run("create", "-f-", stdin=POD % "b", check=False)
    assert told == (
        'Error from server (Forbidden): error when creating "STDIN": pods "b" is forbidden: exceeded quota: q,'
        " requested: pods=1, used: pods=1, limited: pods=1\n"
    )
    kubectl.run("delete", "pod", "a")
    assert kubectl.run("create", "-f-", stdin=POD % "b") == "pod/b created\n"
    assert "pods: 1/1" in kubectl.run("get", "quota", "q")


def test_a_deprecated_kind_comes_with_a_warning(kubectl: Kubectl) -> None:
    told = kubectl.run("get", "endpoints", check=False)
    assert "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\n" in told
