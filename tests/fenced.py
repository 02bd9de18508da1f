"""A StatefulSet of one pod that ticks where it runs, so that machines themselves tell where it ran, and when."""

from __future__ import annotations

import itertools
import json
from functools import cached_property
from typing import Any

from labctl.config import settings
from labctl.vm.lab import Lab
from labctl.vm.provider import Power
from tests.labs import LabUser, eventually, is_ready

POD = "db-0"
_TICK = 'while :; do read up idle < /proc/uptime; echo "$POD_UID $up" >> /ticks/log; usleep 20000; done'
_SET: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "db"},
    "spec": {
        "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}},
        "template": {
            "metadata": {"labels": {"app": "db"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "volumes": [{"name": "ticks", "hostPath": {"path": "/var/lib/ticks", "type": "DirectoryOrCreate"}}],
                "containers": [
                    {
                        "name": "db",
                        "image": "lab.local/busybox:1",
                        "imagePullPolicy": "Never",
                        "command": ["sh", "-c", _TICK],
                        "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
                        "volumeMounts": [{"name": "ticks", "mountPath": "/ticks"}],
                    }
                ],
            },
        },
    },
}


class FencedSet:
    """The set on somebody's lab. System containers share one clock, so ticks of all machines can be put in order."""

    def __init__(self, user: LabUser) -> None:
        self.user = user
        self.workers = ("worker1", "worker2")

    @cached_property
    def lab(self) -> Lab:
        """The machines' side."""
        environ = {"LABCTL_STATE_DIR": self.user.env["LABCTL_STATE_DIR"]}
        return Lab.open(settings(environ), self.user.name)

    def deploy(self) -> None:
        """Create it and wait for its pod."""
        self.user.labctl("image", "load", "lab.local/busybox:1")
        manifest = self.user.home / "db.json"
        manifest.write_text(json.dumps(_SET))
        self.user.kubectl("apply", "-f", str(manifest))
        eventually(self.ready, f"{POD} to be Ready")

    def pod(self) -> Any:
        """The pod as the API has it; None where it has none."""
        done = self.user.kubectl("get", "pod", POD, "-o", "json", code=None)
        return json.loads(done.stdout) if done.code == 0 else None

    def ready(self, *, instead_of: str = "") -> Any:
        """The pod, once it is Ready and not the one of that uid; None until then."""
        pod = self.pod()
        fresh = pod and pod["metadata"]["uid"] != instead_of and "deletionTimestamp" not in pod["metadata"]
        return pod if fresh and is_ready(pod) else None

    def power(self, node: str) -> Power:
        """What the machine is doing, by its provider."""
        return self.lab.provider.power(self.lab.site)[node]

    def all_ready(self) -> bool:
        """Whether every worker's Node is Ready and not tainted."""
        nodes = self.user.json("get", "nodes")["items"]
        return all(is_ready(node) and not node["spec"].get("taints") for node in nodes)

    def bring_back(self, node: str) -> None:
        """Start the machine where it is off; wait for its node."""
        if self.power(node) is Power.OFF:
            self.lab.provider.power_on(self.lab.site, node)
        eventually(self.all_ready, f"{node} to be back")

    def lives(self) -> list[tuple[str, str, float, float]]:
        """Each life of the pod, oldest first: its machine, its uid, its first tick and its last. Machines must run."""
        found: dict[tuple[str, str], list[float]] = {}
        for node in self.workers:
            for line in self.user.labctl("ssh", node, "--", "cat /var/lib/ticks/log || true").stdout.splitlines():
                uid, _, at = line.partition(" ")
                if at.count(".") == 1 and len(at.partition(".")[2]) == 2:  # a power cut may tear the last line
                    found.setdefault((node, uid), []).append(float(at))
        return sorted(((*key, min(at), max(at)) for key, at in found.items()), key=lambda life: life[2])

    def moved(self, before: Any, after: Any) -> bool:
        """Whether both pods really ran, each on its machine."""
        ran = {life[:2] for life in self.lives()}
        return {(pod["spec"]["nodeName"], pod["metadata"]["uid"]) for pod in (before, after)} <= ran

    def doubled(self) -> list[str]:
        """Pairs of lives that overlapped; empty where the identity was never doubled."""
        lives = self.lives()
        pairs = itertools.pairwise(lives)
        return [f"{one} and {other}" for one, other in pairs if other[2] <= one[3]]
