"""What validation says of an object, without a server: `told("pods", document)` are the errors' texts."""

from __future__ import annotations

import copy
from typing import Any

from labctl.kube.resources import builtin
from master.apiserver import metadata as meta
from master.apiserver.defaults import DEFAULTS
from master.apiserver.strategy import prepare_create
from master.apiserver.validation import validate, validate_update

Document = dict[str, Any]


def _prepared(plural: str, document: Document, group: str) -> Document:
    made = copy.deepcopy(document)
    made.setdefault("metadata", {}).setdefault("name", "x")
    made["metadata"].setdefault("uid", "u-1")
    if fill := DEFAULTS.get((group, plural)):
        fill(made)
    return made


def told(plural: str, document: Document, group: str = "") -> list[str]:
    """What is wrong with a new object, `path: message` each."""
    resource, made = builtin(plural, group), _prepared(plural, document, group)
    prepare_create(resource, made)
    found = [*meta.errors(made["metadata"], (group, plural)), *validate(resource, made)]
    return [str(error) for error in found]


def told_of_change(plural: str, old: Document, new: Document, group: str = "", subresource: str = "") -> list[str]:
    """What is wrong with a change of an object."""
    after, before = (_prepared(plural, document, group) for document in (new, old))
    return [str(error) for error in validate_update(builtin(plural, group), after, before, subresource)]


def pod(container: Document | None = None, **spec: Any) -> Document:
    """A pod of one container, with what is to be judged put in."""
    return {"spec": {"containers": [{"name": "c", "image": "i:1", **(container or {})}], **spec}}


def deployment(template: Document | None = None, **spec: Any) -> Document:
    """A Deployment of one container."""
    return {
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {**pod()["spec"], **(template or {})}},
            **spec,
        }
    }
