"""Faults of one process on a node: killed, stopped, frozen. By systemd, which knows the process of each unit."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.drills.actions import Action, Inside, inside
from labctl.drills.faults import OnNode
from labctl.drills.pace import stretched_s
from labctl.drills.target import Target
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import wait_for

_CONFIRM_S = 10.0
_MAIN = "$(systemctl show --property MainPID --value UNIT)"
# The state letter of the main process, T for stopped; nothing where there is none.
_STATE = f"ps -o stat= -p {_MAIN} || true"


@dataclass(frozen=True, slots=True)
class _OnUnit(OnNode):
    """What they share: a component on a node, and a script for each of the three moments."""

    component: str

    def _run(self, target: Target, script: str) -> str:
        return inside(target, self.node, script.replace("UNIT", target.unit(self.component)))

    def _undo(self, target: Target, script: str, what: str) -> tuple[Action, ...]:
        return (Inside(node=self.node, script=script.replace("UNIT", target.unit(self.component)), what=what),)

    def _seen(self, target: Target, clock: Clock, script: str, what: str) -> bool:
        """Whether the script prints `yes` in time."""
        try:
            wait_for(
                lambda: self._run(target, script) == "yes",
                what=what,
                deadline_s=stretched_s(_CONFIRM_S, target.slowness),
                clock=clock,
                every_s=0.1,
            )
        except DeadlineExceeded:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Freeze(_OnUnit):
    """SIGSTOP: the process stands still, its connections stay open, what it started runs on."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"freeze the {self.component} of {self.node} (SIGSTOP)"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        script = f"systemctl kill --kill-whom=main -s CONT UNIT 2>/dev/null || systemctl start UNIT; {_STATE}"
        check = f'case "$({script})" in T*) exit 1;; esac; systemctl is-active --quiet UNIT'
        return self._undo(target, check, f"thaw the {self.component} of {self.node}")

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        self._run(target, "systemctl kill --kill-whom=main -s STOP UNIT")

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """The kernel shows the process as stopped."""
        script = f'case "$({_STATE})" in T*) echo yes;; esac'
        if self._seen(target, clock, script, f"the {self.component} of {self.node} to stand still"):
            return True, f"the {self.component} of {self.node} is stopped (state T)"
        return False, f"the {self.component} of {self.node} runs on"


@dataclass(frozen=True, slots=True)
class Kill(_OnUnit):
    """SIGKILL: the process is gone at once; its service manager starts another."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"kill -9 the {self.component} of {self.node}"

    @property
    def _note(self) -> str:
        return f"/run/labctl-drill-killed-{self.component}"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        return self._undo(
            target, f"rm -f {self._note}; systemctl start UNIT", f"have the {self.component} of {self.node} running"
        )

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        self._run(target, f'main={_MAIN}; test "$main" -gt 0; echo $main > {self._note}; kill -9 $main')

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """The process that was struck is not there any more."""
        script = f"kill -0 $(cat {self._note}) 2>/dev/null || echo yes"
        if self._seen(target, clock, script, f"the {self.component} of {self.node} to be gone"):
            return True, f"the {self.component} of {self.node} was killed"
        return False, f"the {self.component} of {self.node} lives"


@dataclass(frozen=True, slots=True)
class StopUnit(_OnUnit):
    """`systemctl stop`: an orderly end, and nobody starts it again."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"stop the {self.component} of {self.node}"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        return self._undo(target, "systemctl start UNIT", f"start the {self.component} of {self.node}")

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        self._run(target, "systemctl stop UNIT")

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """The service manager says it is not active, and it has no process."""
        script = f'systemctl is-active --quiet UNIT || {{ test "{_MAIN}" = 0 && echo yes; }}'
        if self._seen(target, clock, script, f"the {self.component} of {self.node} to stop"):
            return True, f"the {self.component} of {self.node} is stopped"
        return False, f"the {self.component} of {self.node} is active"
