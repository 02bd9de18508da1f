"""What undoes a fault, or removes what a drill made: each action is data that can be written down, and idempotent.

`undo.py` keeps them on disk and applies them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from labctl.drills.lease import Release
from labctl.drills.pace import stretched_s
from labctl.drills.target import Target
from labctl.kube.errors import Conflict, Document, NotFound
from labctl.kube.resources import NODES, builtin
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import wait_for
from labctl.vm.provider import Link, Power

BOOT_S = 120.0  # a machine's, with hardware of its own
_TRIES = 20  # of a change on condition


class PowerOn(msgspec.Struct, frozen=True, tag="power-on"):
    """Start a machine and wait until its sshd answers."""

    node: str
    boot_s: float = BOOT_S

    @classmethod
    def of(cls, node: str, target: Target) -> PowerOn:
        """With as long to boot as machines of this target need."""
        return cls(node=node, boot_s=boot_s(target))

    def apply(self, target: Target, clock: Clock) -> str:
        """Do it; a sentence of evidence. DeadlineExceeded where the machine does not come up."""
        if target.power(self.node) is not Power.RUNNING:
            target.power_on(self.node)
        wait_for(
            lambda: target.power(self.node) is Power.RUNNING and target.answers(self.node),
            what=f"{self.node} to answer after power on",
            deadline_s=self.boot_s,
            clock=clock,
            every_s=0.25,
        )
        return f"{self.node} is powered on and answers"

    @property
    def text(self) -> str:
        """For people."""
        return f"power {self.node} on"


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """Thaw a suspended machine and wait until its sshd answers."""

    node: str

    def apply(self, target: Target, clock: Clock) -> str:
        """Do it; DeadlineExceeded where the machine does not come to."""
        if not _powered_on(target, self.node, clock):
            target.resume(self.node)
        _await_answer(target, self.node, clock, "after it was resumed")
        return f"{self.node} is resumed and answers"

    @property
    def text(self) -> str:
        """For people."""
        return f"resume {self.node}"


class PlugIn(msgspec.Struct, frozen=True, tag="plug-in"):
    """Put a machine's cable back and wait until its sshd answers."""

    node: str

    def apply(self, target: Target, clock: Clock) -> str:
        """Do it; DeadlineExceeded where the machine is not reached."""
        target.set_link(self.node, Link.UP)
        _powered_on(target, self.node, clock)
        _await_answer(target, self.node, clock, "with its cable back")
        return f"{self.node} has its cable back and answers"

    @property
    def text(self) -> str:
        """For people."""
        return f"plug {self.node} in"


class Inside(msgspec.Struct, frozen=True, tag="inside"):
    """Run a shell script in a machine, as root; it must be idempotent and exit with 0 once all is undone."""

    node: str
    script: str
    what: str  # for people, e.g. `let the kubelet of worker1 go on`
    timeout_s: float = 30.0

    def apply(self, target: Target, clock: Clock) -> str:
        """Do it; LabError where the machine is not reached or the script fails."""
        _powered_on(target, self.node, clock)
        inside(target, self.node, self.script, timeout_s=self.timeout_s)
        return f"{self.what}: done"

    @property
    def text(self) -> str:
        """For people."""
        return self.what


class Uncordon(msgspec.Struct, frozen=True, tag="uncordon"):
    """Let pods be scheduled on a node again."""

    node: str

    def apply(self, target: Target, _clock: Clock) -> str:
        """Do it; a node that is gone is fine."""
        try:
            target.client.patch(NODES, self.node, {"spec": {"unschedulable": None}})
        except NotFound:
            return f"{self.node} is gone"
        return f"{self.node} takes pods again"

    @property
    def text(self) -> str:
        """For people."""
        return f"uncordon {self.node}"


OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


class Untaint(msgspec.Struct, frozen=True, tag="untaint"):
    """Take the taint `out-of-service` off a node."""

    node: str

    def apply(self, target: Target, _clock: Clock) -> str:
        """Do it; a node that is gone is fine."""
        try:
            changed_taints(target, self.node, lambda taints: [one for one in taints if one["key"] != OUT_OF_SERVICE])
        except NotFound:
            return f"{self.node} is gone"
        return f"{self.node} is in service again"

    @property
    def text(self) -> str:
        """For people."""
        return f"take the taint {OUT_OF_SERVICE} off {self.node}"


class Rejoin(msgspec.Struct, frozen=True, tag="rejoin"):
    """Wait until a machine's Node is there: its kubelet makes it anew."""

    node: str
    boot_s: float = BOOT_S

    def apply(self, target: Target, clock: Clock) -> str:
        """Do it; DeadlineExceeded where it does not come."""
        _powered_on(target, self.node, clock)

        def there() -> bool:
            try:
                return bool(target.client.get(NODES, self.node))
            except NotFound:
                return False

        wait_for(there, what=f"the Node {self.node}", deadline_s=self.boot_s, clock=clock, every_s=0.25)
        return f"{self.node} is a Node"

    @property
    def text(self) -> str:
        """For people."""
        return f"wait until {self.node} is a Node again"


class DeleteObject(msgspec.Struct, frozen=True, tag="delete-object"):
    """Remove something that the drill created."""

    plural: str
    group: str
    namespace: str
    name: str

    def apply(self, target: Target, _clock: Clock) -> str:
        """Delete it; gone already is fine."""
        try:
            target.client.delete(builtin(self.plural, self.group), self.name, self.namespace)
        except NotFound:
            return f"{self.text}: gone already"
        return f"{self.text}: done"

    @property
    def text(self) -> str:
        """For people."""
        return f"delete {self.plural}/{self.name}" + (f" in {self.namespace}" if self.namespace else "")


Action = PowerOn | Resume | PlugIn | Inside | Uncordon | Untaint | Rejoin | DeleteObject | Release


def boot_s(target: Target) -> float:
    """How long a machine of this target may take to boot."""
    return stretched_s(BOOT_S, target.slowness)


def inside(target: Target, node: str, script: str, *, timeout_s: float = 30.0) -> str:
    """What a shell script prints that is run in the machine as root; LabError where it fails."""
    done = target.run(node, ["sh", "-c", script], timeout_s=timeout_s)
    if done.code != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise LabError(f"{node}: exit code {done.code}: {words[-1] if words else 'no output'}")
    return done.stdout.strip()


def changed_taints(target: Target, node: str, change: Callable[[list[Document]], list[Document]]) -> None:
    """Replace a Node's taints on condition that nobody else changed it; NotFound where it is gone."""
    for _ in range(_TRIES):
        found = target.client.get(NODES, node)
        before = list(found["spec"].get("taints") or ())
        if (after := change(before)) == before:
            return
        body = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "spec": {"taints": after}}
        with contextlib.suppress(Conflict):
            target.client.patch(NODES, node, body)
            return
    raise LabError(f"the taints of {node} could not be changed: somebody else changes it all the time")


def _powered_on(target: Target, node: str, clock: Clock) -> bool:
    """Power a machine on that is off (the cluster may have fenced it, for it was silent); whether that was needed."""
    if target.power(node) is not Power.OFF:
        return False
    PowerOn.of(node, target).apply(target, clock)
    return True


def _await_answer(target: Target, node: str, clock: Clock, when: str) -> None:
    wait_for(
        lambda: target.answers(node),
        what=f"{node} to answer {when}",
        deadline_s=stretched_s(30.0, target.slowness),
        clock=clock,
    )
