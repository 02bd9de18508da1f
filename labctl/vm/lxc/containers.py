"""Driving LXC itself: start, stop, freeze and ask, one container at a time."""

from __future__ import annotations

import contextlib
from pathlib import Path

from labctl.runtime.errors import LabError
from labctl.runtime.shell import CommandError, Shell
from labctl.vm.lxc import disks
from labctl.vm.lxc.cgroups import ControlGroups
from labctl.vm.lxc.config import Node
from labctl.vm.provider import Power

_START_S = 30.0
_HALT_S = 25.0
_KILL_S = 5.0

_STATES = {
    "RUNNING": Power.RUNNING,
    "STARTING": Power.RUNNING,
    "STOPPING": Power.RUNNING,
    "THAWED": Power.RUNNING,
    "FREEZING": Power.SUSPENDED,
    "FROZEN": Power.SUSPENDED,
}


class Containers:
    """The lxc tools, plus the control groups where they are not enough."""

    def __init__(self, shell: Shell, groups: ControlGroups) -> None:
        self._shell, self._groups = shell, groups

    def state(self, node: Node) -> Power:
        """What the node is doing."""
        if not disks.exists(node):
            return Power.ABSENT
        return _STATES.get(self._lxc("lxc-info", node, "-s", "-H").strip(), Power.OFF)

    def start(self, node: Node) -> None:
        """Start a node that is off; returns once its init runs. LabError carries LXC's first complaint."""
        for group in (node.control_group, node.monitor_control_group):
            if self._groups.exist(group):  # its monitor died, so LXC no longer knows what runs there
                self._groups.remove(group, deadline_s=_KILL_S)
        log = node.folder / "lxc.log"
        log.unlink(missing_ok=True)
        try:
            self._lxc("lxc-start", node, "-d", "-o", str(log), "-l", "WARN", timeout_s=_START_S)
        except CommandError as error:
            complaints = [line for line in _read(log).splitlines() if " ERROR " in line]
            told = complaints[0].split(" - ", 2)[-1] if complaints else str(error)
            raise LabError(f"{node.machine.name} did not start: {told}", hint=f"the whole story: {log}") from error

    def halt(self, node: Node) -> None:
        """Ask the node's init to power off; kill it after the deadline."""
        self._lxc("lxc-stop", node, "-t", str(int(_HALT_S)), timeout_s=_HALT_S + _KILL_S)

    def kill(self, node: Node) -> None:
        """Cut the node's power, frozen or not."""
        if self.state(node) in (Power.RUNNING, Power.SUSPENDED):
            with contextlib.suppress(CommandError):  # then by force, next
                self._lxc("lxc-stop", node, "-k", timeout_s=_KILL_S)
        self._groups.remove(node.control_group, deadline_s=_KILL_S)

    def freeze(self, node: Node) -> None:
        """Stop every process of the node where it is."""
        self._lxc("lxc-freeze", node)

    def thaw(self, node: Node) -> None:
        """Let them go on."""
        self._lxc("lxc-unfreeze", node)

    def _lxc(self, tool: str, node: Node, *arguments: str, timeout_s: float = 15.0) -> str:
        argv = [tool, "-P", str(node.home), "-n", node.container, *arguments]
        return self._shell.run(argv, timeout_s=timeout_s).stdout


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
