"""Whatever happens between a pod's end and its Job's count of it: each pod is counted once, and none is lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.kube.errors import Document
from labctl.kube.resources import JOBS, PODS
from master.controllers.catalog.job import CONTROLLER
from master.controllers.protocol import World
from tests.unit.master.controllers.cluster import Cluster, open_cluster

_PARALLEL, _COMPLETIONS = 3, 4


class Counted:
    """A Job in a cluster; every method is something that may happen next."""

    def __init__(self, cluster: Cluster, mode: str) -> None:
        self.cluster = cluster
        self.good, self.bad = set[str](), set[str]()
        self.past: World | None = None
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "lab.local/web:1"}]}}
        counts = {"parallelism": _PARALLEL, "completions": _COMPLETIONS, "backoffLimit": 1_000}
        spec = {**counts, "completionMode": mode, "template": template}
        cluster.create(JOBS, {"metadata": {"name": "sum"}, "spec": spec})
        cluster.invariants.append(lambda _: self.check())

    @property
    def status(self) -> Document:
        found: Document = self.cluster.get(JOBS, "sum").get("status") or {}
        return found

    def _running(self, which: int) -> list[str]:
        running = [
            pod["metadata"]["name"]
            for pod in self.cluster.all(PODS)
            if pod["status"].get("phase", "Pending") == "Pending" and "deletionTimestamp" not in pod["metadata"]
        ]
        return running[which % len(running) :][:1] if running else []

    def succeed(self, which: int) -> None:
        """A pod ends well."""
        for name in self._running(which):
            self.cluster.report(name, "Succeeded")
            self.good.add(name)

    def fail(self, which: int) -> None:
        """A pod ends badly."""
        for name in self._running(which):
            self.cluster.report(name, "Failed")
            self.bad.add(name)

    def remove(self, which: int) -> None:
        """Somebody deletes a pod that has ended; the finalizer keeps it until it is counted."""
        over = [pod["metadata"]["name"] for pod in self.cluster.all(PODS) if pod["metadata"]["name"] in self.over]
        for name in over[which % len(over) :][:1] if over else ():
            self.cluster.client.delete(PODS, name, "default")

    @property
    def over(self) -> set[str]:
        return self.good | self.bad

    def look(self, which: int) -> None:
        """A pass whose process dies after so many actions; what it saw may be all that another one knows."""
        world = self.cluster.observe(CONTROLLER)
        self.cluster.run(CONTROLLER, most=which)
        self.past = world
        self.cluster.skipped_s += 700  # past every delay

    def look_back(self, which: int) -> None:
        """A pass over what was seen before the last one."""
        if self.past is not None:
            self.cluster.run(CONTROLLER, world=self.past, most=which)

    def check(self) -> None:
        """Nothing is counted that did not happen, and nothing twice."""
        status = self.status
        waiting = status.get("uncountedTerminatedPods") or {}
        assert status.get("succeeded", 0) <= len(self.good)
        assert status.get("failed", 0) + len(waiting.get("failed") or ()) <= len(self.bad)

    def finish(self) -> None:
        """From now on all goes well."""
        for _ in range(40):
            if any(one["type"] == "Complete" for one in self.status.get("conditions") or ()):
                return
            for number in range(_PARALLEL):
                self.succeed(number)
            self.look(1_000)
        raise AssertionError("the Job did not complete")


EVENTS = ["look", "look", "look", "look_back", "succeed", "succeed", "fail", "remove"]
HAPPENINGS = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 6)), max_size=25)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["NonIndexed", "Indexed"]), HAPPENINGS)
def test_every_pod_is_counted_once(mode: str, happenings: list[tuple[str, int]]) -> None:
    with open_cluster() as cluster:
        job = Counted(cluster, mode)
        for what, which in happenings:
            getattr(job, what)(which)
            job.check()
        job.finish()
        assert job.status["succeeded"] == _COMPLETIONS
        assert job.status.get("failed", 0) == len(job.bad)
        assert not job.status.get("uncountedTerminatedPods")
