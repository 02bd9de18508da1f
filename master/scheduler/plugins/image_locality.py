"""ImageLocality: prefer nodes that have the pod's images already, the more of the bytes the better.

Source: k/k `pkg/scheduler/framework/plugins/imagelocality` (23 MB to 1 GB a container, scaled by how spread they are).
"""

from __future__ import annotations

from typing import Any

from master.scheduler.protocol import MOST, Cluster, Plugin
from master.scheduler.snapshot import NodeInfo, PodInfo

_MB = 1024 * 1024
_LEAST, _MOST_A_CONTAINER = 23 * _MB, 1_000 * _MB


def normalized(image: str) -> str:
    """With its tag: `latest` where there is none."""
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def _prepare(info: PodInfo, cluster: Cluster) -> dict[str, float]:
    """Each image's share of the nodes."""
    images = {normalized(container.image) for container in info.pod.spec.containers}
    total = len(cluster.nodes)
    return {image: sum(image in node.image_bytes for node in cluster.nodes.values()) / total for image in images}


def _score(info: PodInfo, node: NodeInfo, share: Any) -> float:
    containers = info.pod.spec.containers
    size = sum(
        node.image_bytes.get(image, 0) * share.get(image, 0.0)
        for image in (normalized(container.image) for container in containers)
    )
    most = _MOST_A_CONTAINER * max(1, len(containers))
    return float(int(MOST * (min(max(size, _LEAST), most) - _LEAST) / (most - _LEAST)))


PLUGIN = Plugin(name="ImageLocality", weight=1, prepare=_prepare, score=_score)
