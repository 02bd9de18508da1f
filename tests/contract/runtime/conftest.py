"""One suite over the fake and over real containerd, with a few words for what both can do."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.kubelet.fake import FakeRuntime
from agents.kubelet.runtime import ContainerRuntime, ContainerSpec, ContainerStatus, PodRef
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.contract.runtime.node import IMAGE, SLEEPER, Node, node

_serial = itertools.count()


class World:
    """A runtime, the pods a test made in it, and how to talk about them."""

    def __init__(self, runtime: ContainerRuntime, folder: Path, again: Callable[[], ContainerRuntime]) -> None:
        self.runtime, self.folder, self.again = runtime, folder, again
        self.clock = SystemClock()

    def pod(self) -> PodRef:
        """A pod nobody has seen yet."""
        return PodRef(str(uuid.uuid4()), "default", f"p{next(_serial)}")

    def spec(self, pod: PodRef, *command: str, name: str = "main", attempt: int = 0, **more: Any) -> ContainerSpec:
        """A container of the pod, whose sandbox is made."""
        sandbox = self.runtime.make_sandbox(pod, host_network=False, host_ports=())
        settings: dict[str, Any] = {"image": IMAGE, "args": (), "env": {}, "mounts": ()} | more
        log = self.folder / pod.uid / f"{name}-{attempt}.log"
        return ContainerSpec(
            pod=pod,
            name=name,
            attempt=attempt,
            command=command,
            sandbox=sandbox,
            hostname=pod.name,
            log_path=str(log),
            **settings,
        )

    def status(self, container_id: str) -> ContainerStatus:
        """The container as the runtime lists it."""
        return next(status for status in self.runtime.containers() if status.id == container_id)

    def ended(self, container_id: str) -> ContainerStatus:
        """The container once it has ended."""

        def look() -> ContainerStatus | None:
            status = self.status(container_id)
            return status if status.phase == "exited" else None

        return wait_for(look, what="the container's end", deadline_s=20, clock=self.clock, every_s=0.02)

    def clean(self, pods: Sequence[PodRef]) -> None:
        """Stop and remove everything of some pods."""
        for status in self.runtime.containers():
            if status.pod in pods:
                self.runtime.stop(status.id, grace_s=0)
                self.ended(status.id)
                self.runtime.remove(status.id)
        for pod in pods:
            self.runtime.remove_sandbox(pod)


@pytest.fixture(scope="session")
def real_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A private containerd for the whole session."""
    with node(tmp_path_factory.mktemp("containerd")) as found:
        yield found


@pytest.fixture
def real(real_node: Node, tmp_path: Path) -> Iterator[World]:
    """nerdctl over real containerd; everything a test made is removed after it."""
    world = World(real_node.runtime(), tmp_path, real_node.runtime)
    yield world
    pods = {status.pod for status in world.runtime.containers()} | {box.pod for box in world.runtime.sandboxes()}
    world.clean(sorted(pods, key=lambda pod: pod.uid))


@pytest.fixture(params=["fake", "nerdctl"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Each runtime in turn."""
    if request.param == "fake":
        fake = FakeRuntime(SystemClock(), images=[IMAGE, SLEEPER])
        return World(fake, tmp_path, lambda: fake)
    found: World = request.getfixturevalue("real")
    return found
