"""What happened in the cluster, for plugins to say whether it could help a pod that they refused."""

from __future__ import annotations

from dataclasses import dataclass

from master.scheduler.snapshot import NodeInfo, PodInfo


@dataclass(frozen=True, slots=True)
class NodeMoved:
    """A node came (`old` None), went (`new` None) or is another than it was; pods on it are left out."""

    old: NodeInfo | None
    new: NodeInfo | None

    @property
    def relabelled(self) -> bool:
        """Whether it came, went, or has other labels."""
        if self.old is None or self.new is None:
            return True
        return self.old.node.metadata.labels != self.new.node.metadata.labels


@dataclass(frozen=True, slots=True)
class PodMoved:
    """A pod came to a node (`old` None), left one (`new` None), or has other labels or needs."""

    old: PodInfo | None
    new: PodInfo | None


Change = NodeMoved | PodMoved
