"""How far the start has come: what /readyz asks, and what holds requests off until the basics exist."""

from __future__ import annotations

from master.apiserver.request import User

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


LAST_HOOK = "rbac/bootstrap-roles"

# The cluster's own components: what they need exists first, so that nodes come up while the rest is written.
COMPONENTS = frozenset(
    {"system:masters", "system:nodes", "system:kube-scheduler", "system:kube-controller-manager", "system:kube-proxy"}
)


class Startup:
    """Whether the bootstrap has run; it has, unless somebody says `begin`."""

    def __init__(self) -> None:
        self._running = self._components = False

    def begin(self) -> None:
        """The bootstrap is under way: requests for resources are turned away."""
        self._running, self._components = True, False

    def admit_components(self) -> None:
        """What the cluster's own components need exists."""
        self._components = True

    def serves(self, user: User) -> bool:
        """Whether requests of `user` may be served by now."""
        return not self._running or (self._components and not COMPONENTS.isdisjoint((user.name, *user.groups)))

    @property
    def serves_components(self) -> bool:
        """Whether all but the rest of the default policy exists."""
        return not self._running or self._components

    def finish(self) -> None:
        """All that must exist does."""
        self._running = False

    @property
    def finished(self) -> bool:
        """Whether everybody's requests may be served."""
        return not self._running
