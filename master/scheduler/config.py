"""scheduler.json: where the API is."""

from __future__ import annotations

from labctl.kube.component import ComponentConfig


class Config(ComponentConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As written by the playbooks."""

    kubeconfig: str
