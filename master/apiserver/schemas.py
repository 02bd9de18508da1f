"""Where Kubernetes' schemas lie: beside the application on a node, in the package kubernetes-validate elsewhere."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import master
from labctl.kube.schema import Schemas
from labctl.runtime.errors import LabError

_BESIDE = "labctl-data/kubernetes-1.37.json"
_PACKAGED = "kubernetes-json-schema/v1.37.0-local/_definitions.json"


def find() -> Path:
    """The file of definitions; LabError says how to get it."""
    beside = Path(str(master.__file__)).resolve().parent.parent / _BESIDE
    if beside.exists():
        return beside
    found = importlib.util.find_spec("kubernetes_validate")
    if found is None or not found.origin:
        raise LabError(
            f"{beside}: not there, and kubernetes-validate is not installed", hint="pip install kubernetes-validate"
        )
    return Path(found.origin).parent / _PACKAGED


@functools.cache
def load() -> Schemas:
    """The definitions of Kubernetes 1.37; read once a process."""
    return Schemas(find())
