"""How far the start has come: what /readyz asks, and what holds requests off until the basics exist."""

from __future__ import annotations

# What `bootstrap` does, under upstream's names for it. Source: `pkg/controlplane/{instance,apiserver/server}.go`,
# `pkg/registry/{rbac,scheduling}/rest/storage_*.go`.
HOOKS = (
    "start-system-namespaces-controller",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
)


class Startup:
    """Whether the bootstrap has run; it has, unless somebody says `begin`."""

    def __init__(self) -> None:
        self._running = False

    def begin(self) -> None:
        """The bootstrap is under way: requests for resources are turned away."""
        self._running = True

    def finish(self) -> None:
        """All that must exist does."""
        self._running = False

    @property
    def finished(self) -> bool:
        """Whether requests may be served."""
        return not self._running
