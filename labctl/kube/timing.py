"""The two timing profiles: upstream's numbers, and the same machine with every timer scaled down.

Sources: kubelet `v1beta1/defaults.go`, `kubelet.go` (maxWaitForContainerRuntime),
`nodelifecycle/config/v1alpha1/defaults.go`, `rate_limited_queue.go`, `defaulttolerationseconds/admission.go`,
`podgc/gc_controller.go` (kubernetes/kubernetes, 1.37). Upstream's kubelet shuts down in order only where it is told to:
the times are those of its documentation's example; the lead is ours.
"""

from __future__ import annotations

import msgspec


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Every timer that decides how fast a failure is seen and acted on. Seconds, unless the name says otherwise."""

    name: str
    lease_duration_s: float
    lease_renew_s: float
    lease_jitter: float  # a fraction of the renew period
    node_status_s: float  # computed this often
    node_status_report_s: float  # posted at least this often, sooner on change
    runtime_grace_s: float  # a container runtime may be away for so long before its node is not ready
    node_monitor_period_s: float
    node_monitor_grace_s: float
    node_startup_grace_s: float
    toleration_s: int  # not-ready and unreachable, set by admission where a pod has none
    eviction_rate_per_s: float
    secondary_eviction_rate_per_s: float
    unhealthy_zone_threshold: float  # a fraction of the zone's nodes
    large_zone_nodes: int
    pod_gc_period_s: float
    pod_gc_quarantine_s: float
    api_lease_s: int  # an API server that has not said for so long that it serves is no endpoint any more
    leader_lease_s: float
    leader_renew_deadline_s: float
    leader_retry_s: float
    restart_backoff_s: float
    restart_backoff_cap_s: float
    proxy_min_sync_s: float
    proxy_full_sync_s: float
    pressure_holds_s: float  # a node's pressure is told for so long after it has gone
    shutdown_grace_s: float  # of a machine that shuts down in order: until all its pods must have ended
    shutdown_critical_s: float  # the part of it that is kept for critical pods, which end last
    shutdown_lead_s: float  # a pod has left its Services for so long before it is told to end


KUBERNETES = Profile(
    name="kubernetes",
    lease_duration_s=40,
    lease_renew_s=10,
    lease_jitter=0.04,
    node_status_s=10,
    node_status_report_s=300,
    runtime_grace_s=30,
    node_monitor_period_s=5,
    node_monitor_grace_s=50,
    node_startup_grace_s=60,
    toleration_s=300,
    eviction_rate_per_s=0.1,
    secondary_eviction_rate_per_s=0.01,
    unhealthy_zone_threshold=0.55,
    large_zone_nodes=50,
    pod_gc_period_s=20,
    pod_gc_quarantine_s=40,
    api_lease_s=15,
    leader_lease_s=15,
    leader_renew_deadline_s=10,
    leader_retry_s=2,
    restart_backoff_s=10,
    restart_backoff_cap_s=300,
    proxy_min_sync_s=1,
    proxy_full_sync_s=30,
    pressure_holds_s=300,
    shutdown_grace_s=30,
    shutdown_critical_s=10,
    shutdown_lead_s=2,
)

FAST = Profile(
    name="fast",
    lease_duration_s=4,
    lease_renew_s=1,
    lease_jitter=0.04,
    node_status_s=2,
    node_status_report_s=30,
    runtime_grace_s=3,
    node_monitor_period_s=0.25,
    node_monitor_grace_s=4,
    node_startup_grace_s=20,
    toleration_s=1,
    eviction_rate_per_s=1.0,
    secondary_eviction_rate_per_s=0.1,
    unhealthy_zone_threshold=0.55,
    large_zone_nodes=50,
    pod_gc_period_s=2,
    pod_gc_quarantine_s=4,
    api_lease_s=5,
    leader_lease_s=4,
    leader_renew_deadline_s=3,
    leader_retry_s=0.5,
    restart_backoff_s=1,
    restart_backoff_cap_s=30,
    proxy_min_sync_s=0.1,
    proxy_full_sync_s=10,
    pressure_holds_s=10,
    shutdown_grace_s=10,
    shutdown_critical_s=4,
    shutdown_lead_s=1,
)

PROFILES = {profile.name: profile for profile in (FAST, KUBERNETES)}
