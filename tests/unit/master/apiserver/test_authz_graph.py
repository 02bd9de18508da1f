"""What a pod names, found in its specification."""

from __future__ import annotations

from typing import Any

import pytest

from master.apiserver.authz.graph import names_objects, names_secrets

KEY = {"name": "s", "key": "k"}


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"imagePullSecrets": [{"name": "s"}]}, "imagePullSecrets"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, 'volume with secret.secretName="s"'),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]},
            'volume with secret.secretName="s"',
        ),
        ({"volumes": [{"name": "v", "azureFile": {"secretName": "s"}}]}, 'volume with secret.secretName="s"'),
        ({"volumes": [{"name": "v", "iscsi": {"secretRef": {"name": "s"}}}]}, 'volume with secret.secretName="s"'),
        (
            {"volumes": [{"name": "v", "csi": {"nodePublishSecretRef": {"name": "s"}}}]},
            'volume with secret.secretName="s"',
        ),
        (
            {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]},
            'container c with envFrom referencing secret.secretName="s"',
        ),
        (
            {"initContainers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": KEY}}]}]},
            'init container c with envVar E referencing secret.secretName="s"',
        ),
        (
            {"ephemeralContainers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": KEY}}]}]},
            'ephemeral container c with envVar E referencing secret.secretName="s"',
        ),
    ],
)
def test_a_secret_is_found_wherever_it_is_named(spec: dict[str, Any], where: str) -> None:
    assert list(names_secrets(spec)) == [(where, "s")]
    assert names_objects(spec) == "secrets"


def test_a_pod_that_names_nothing_names_nothing() -> None:
    variable = {"name": "E", "value": "secretKeyRef"}
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {"path": "/secret"}}]
    spec = {"containers": [{"name": "c", "env": [variable]}], "volumes": volumes, "nodeName": "n"}
    assert list(names_secrets(spec)) == []
    assert names_objects(spec) == ""
