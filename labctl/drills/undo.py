"""The undo of a fault, as data: written to disk before the fault, applied by whoever survives.

`undo.json` lies in the lab's drills folder, one for the whole lab, since there is one drill at a time. It is replaced
atomically and flushed, so it is either the old list or the new one. Applying is idempotent, in reverse order.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from labctl.drills.target import Reopen, Target
from labctl.kube.errors import Conflict, Document, NotFound
from labctl.kube.resources import NODES, builtin
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Backoff, wait_for
from labctl.vm.provider import Link, Power

NAME = "undo.json"
_TRIES = 20  # of a change on condition


class PowerOn(msgspec.Struct, frozen=True, tag="power-on"):
    """Start a machine and wait until its sshd answers."""

    node: str
    boot_s: float = 120.0

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
        done = target.run(self.node, ["sh", "-c", self.script], timeout_s=self.timeout_s)
        if done.code != 0:
            words = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise LabError(f"{self.node}: exit code {done.code}: {words[-1] if words else 'no output'}")
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
    boot_s: float = 120.0

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
    PowerOn(node=node, boot_s=120.0 * max(1.0, target.slowness)).apply(target, clock)
    return True


def _await_answer(target: Target, node: str, clock: Clock, when: str) -> None:
    wait_for(
        lambda: target.answers(node),
        what=f"{node} to answer {when}",
        deadline_s=30.0 * max(1.0, target.slowness),
        clock=clock,
    )


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


Action = PowerOn | Resume | PlugIn | Inside | Uncordon | Untaint | Rejoin | DeleteObject


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """What is still to be undone, by whom it was left, and how to reach the lab."""

    drill: str
    run_dir: str
    runner_pid: int
    reopen: Reopen
    heal_by_s: float  # on the monotonic clock of this boot: past it the dead-man heals even if the runner lives
    heals: tuple[Action, ...] = ()  # undo the faults
    cleanups: tuple[Action, ...] = ()  # remove what the drill deployed


def replaced(pending: Pending, *, heals: tuple[Action, ...]) -> Pending:
    """The same, with other heals."""
    return msgspec.structs.replace(pending, heals=heals)


_decoder = msgspec.json.Decoder(Pending)


def save(folder: Path, pending: Pending) -> None:
    """Replace the pending undo, flushed to the disk before this returns."""
    draft = folder / f".{NAME}.{os.getpid()}"
    try:
        with open(draft, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(msgspec.json.format(msgspec.json.encode(pending)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, folder / NAME)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise LabError(
            f"{folder / NAME}: {error.strerror}", hint="no fault is injected before its undo is on disk"
        ) from error


def load(folder: Path) -> Pending | None:
    """What is pending, or None; LabError where the file cannot be read."""
    try:
        return _decoder.decode((folder / NAME).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise LabError(
            f"{folder / NAME}: {error}", hint="check each machine's power by hand, then remove the file"
        ) from error


def clear(folder: Path) -> None:
    """Nothing is pending any more, nor half written by somebody who died over it."""
    for draft in folder.glob(f".{NAME}.*"):
        draft.unlink(missing_ok=True)
    (folder / NAME).unlink(missing_ok=True)


def apply_all(
    actions: tuple[Action, ...], target: Target, clock: Clock, *, deadline_s: float
) -> tuple[bool, tuple[str, ...]]:
    """Apply in reverse order, each retried until `deadline_s` is over; (all done, a sentence for each).

    One that fails does not keep the others from being applied.
    """
    end_s = clock.monotonic_s() + deadline_s
    said, ok = [], True
    for action in reversed(actions):
        backoff = Backoff(base_s=0.2, cap_s=5.0)
        while True:
            try:
                said.append(action.apply(target, clock))
                break
            except LabError as error:
                if clock.monotonic_s() >= end_s:
                    said.append(f"{action.text}: failed: {error}")
                    ok = False
                    break
                clock.sleep_s(min(backoff.next_s(), max(0.0, end_s - clock.monotonic_s())))
    return ok, tuple(said)
