"""What a drill needs of the lab it runs against. The lab's facade implements `Target`; a fake stands beside it.

Two processes use a target: the runner, and the dead-man that heals if the runner dies. The second one opens the
same target again by `reopen`, so nothing that the heal needs may live in the runner's memory only.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from labctl.kube.client import RawList, WatchEvent
from labctl.kube.errors import Document
from labctl.kube.resources import Resource
from labctl.kube.timing import Profile
from labctl.runtime.errors import LabError
from labctl.runtime.shell import Output
from labctl.vm.provider import Link, Power

COMPONENTS = ("apiserver", "containerd", "controllers", "etcd", "kubelet", "proxy", "scheduler")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of the lab; workers carry the name of their Node."""

    name: str
    role: str  # master or worker
    address: str


class Reopen(msgspec.Struct, frozen=True, kw_only=True):
    """How another process opens this target: calls `factory` (`module:function`) with `args` as keywords."""

    factory: str
    args: Mapping[str, str] = {}


class Api(Protocol):
    """The part of `labctl.kube.client.Client` that drills use."""

    def get(self, resource: Resource, name: str, namespace: str = "") -> Document:
        """See Client."""
        ...

    def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> RawList:
        """See Client."""
        ...

    def create(self, resource: Resource, body: object, namespace: str = "") -> Document:
        """See Client."""
        ...

    def patch(self, resource: Resource, name: str, body: object, namespace: str = "") -> Document:
        """See Client (a merge patch)."""
        ...

    def post(self, resource: Resource, name: str, subresource: str, body: object, namespace: str = "") -> Document:
        """See Client."""
        ...

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        grace_s: int | None = None,
        resource_version: str = "",
    ) -> object:
        """See Client."""
        ...

    def watch(
        self, resource: Resource, namespace: str = "", *, resource_version: str, timeout_s: int = 300
    ) -> AbstractContextManager[Iterator[WatchEvent]]:
        """See Client."""
        ...


class Target(Protocol):
    """A lab under test. Every call has a deadline and raises LabError."""

    @property
    def lab(self) -> str:
        """The lab's name."""
        ...

    @property
    def provider(self) -> str:
        """E.g. `vagrant`."""
        ...

    @property
    def profile(self) -> Profile:
        """The timers that the control plane runs with."""
        ...

    @property
    def slowness(self) -> float:
        """How much longer work takes than on hardware: 1, or more under emulation. Scales allowances, never timers."""
        ...

    @property
    def drills_dir(self) -> Path:
        """Where lock, pending undo and histories live, e.g. `.labctl/<lab>/drills`; mode 0700, made by the target."""
        ...

    @property
    def reopen(self) -> Reopen:
        """How the dead-man gets at this target."""
        ...

    @property
    def client(self) -> Api:
        """The API as the lab's administrator; safe to share between threads."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other hosts may run drills on it, too: then a Lease in it is the lock, besides the one on disk."""
        ...

    @property
    def virtual_address(self) -> str:
        """The address that one of several masters holds at a time; "" where there is none, or none is known."""
        ...

    def machines(self) -> Sequence[Machine]:
        """Every machine, masters first."""
        ...

    def power(self, name: str) -> Power:
        """What the provider says the machine is doing."""
        ...

    def power_off(self, name: str) -> None:
        """Cut the power; idempotent."""
        ...

    def power_on(self, name: str) -> None:
        """Start the machine; idempotent, returns without waiting for its boot."""
        ...

    def reset(self, name: str) -> None:
        """Hard reset, as the button; returns without waiting for the boot."""
        ...

    def suspend(self, name: str) -> None:
        """Freeze the machine as a whole, its clocks included where it has its own; idempotent."""
        ...

    def resume(self, name: str) -> None:
        """Thaw it; idempotent."""
        ...

    def set_link(self, name: str, link: Link) -> None:
        """Plug the machine's cable in or out; idempotent."""
        ...

    def unit(self, component: str) -> str:
        """The systemd unit that runs a component (one of COMPONENTS) on its machines; UsageError where none does."""
        ...

    def answers(self, name: str, *, timeout_s: float = 1.0) -> bool:
        """Whether the machine takes a connection on its ssh port. Never raises."""
        ...

    def within_reach(self, names: Sequence[str]) -> Sequence[str]:
        """Those of the machines that can be looked into at all."""
        ...

    def supply(self, image: str) -> Sequence[str]:
        """See that workers have an image that no registry has; those that lacked it. None where we do not make it."""
        ...

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        """Run a command as root on the machine; LabError where it cannot be reached, any exit code is returned."""
        ...


def open_target(reopen: Reopen) -> Target:
    """Open the target that `reopen` describes; LabError where its factory is not there."""
    module, _, function = reopen.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise LabError(f"cannot open the lab again: {reopen.factory}: {error}") from error
    target: Target = factory(**reopen.args)
    return target
