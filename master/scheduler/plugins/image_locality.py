"""ImageLocality: prefer nodes that have the pod's images already, the more of the bytes the better.

Source: k/k `pkg/scheduler/framework/plugins/imagelocality` (23 MB to 1 GB a container, scaled by how spread they are).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

from master.scheduler.cluster import Cluster
from master.scheduler.protocol import MOST, Plugin, Ratings
from master.scheduler.snapshot import NodeInfo, PodInfo

_MB = 1024 * 1024
_LEAST, _MOST_A_CONTAINER = 23 * _MB, 1_000 * _MB


def normalized(image: str) -> str:
    """With its tag: `latest` where there is none."""
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def _images(info: PodInfo) -> list[str]:
    spec = info.pod.spec
    return [normalized(container.image) for container in (*spec.init_containers, *spec.containers)]


def _prepare(info: PodInfo, cluster: Cluster) -> dict[str, float] | None:
    """The score of every node that has one; None where no node has any of the images."""
    images = _images(info)
    total, having = len(cluster.nodes), cluster.images
    share = {image: having[image] / total for image in images if image in having}
    if not share:
        return None

    def scores() -> dict[str, float]:
        most = _MOST_A_CONTAINER * len(images)
        found = {}
        for name, node in cluster.nodes.items():
            size = sum(node.image_bytes.get(image, 0) * share.get(image, 0.0) for image in images)
            if size > _LEAST:
                found[name] = float(int(MOST * (min(size, most) - _LEAST) / (most - _LEAST)))
        return found

    return cluster.of_nodes(("images", *images), scores)


def _score(info: PodInfo, nodes: Sequence[NodeInfo], scores: Any) -> Ratings | None:
    del info
    return list(map(scores.get, [node.name for node in nodes], repeat(0.0))) if scores else None


PLUGIN = Plugin(name="ImageLocality", weight=1, prepare=_prepare, score=_score)
