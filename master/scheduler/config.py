"""scheduler.json: where the API is, and what a cluster may want to decide otherwise."""

from __future__ import annotations

from labctl.kube.component import ComponentConfig
from master.scheduler.views import SpreadConstraint


class Config(ComponentConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As written by the playbooks.

    `default_constraints`, as PodTopologySpreadArgs has them, spread pods that have none; without them upstream's do.
    `percentage_of_nodes_to_score` of the nodes that fit are enough to choose from; 0 is upstream's rule.
    """

    kubeconfig: str
    default_constraints: tuple[SpreadConstraint, ...] | None = None
    percentage_of_nodes_to_score: int = 0
