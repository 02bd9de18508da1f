"""libvirt on this host, through virsh: its daemon, domains and their power, the QEMU monitor."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded, LabError
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import CommandError, LocalShell, Output, Shell
from labctl.vm.provider import Power

URI = "qemu:///system"
_COMMAND_S = 30.0
_DAEMON_S = 60.0  # the first start of libvirtd probes what QEMU can do: 10 s here
_STATES = {
    "running": Power.RUNNING,
    "idle": Power.RUNNING,
    "in shutdown": Power.RUNNING,
    "paused": Power.SUSPENDED,
    "pmsuspended": Power.SUSPENDED,
}


class Libvirt:
    """The host's libvirt. Every call has a deadline and raises CommandError where virsh fails."""

    def __init__(self, shell: Shell | None = None, clock: Clock | None = None) -> None:
        self._shell = shell or LocalShell()
        self._clock = clock

    def virsh(
        self, *arguments: str, timeout_s: float = _COMMAND_S, check: bool = True, stdin: str | bytes = ""
    ) -> Output:
        """Run one virsh command."""
        return self._shell.run(
            ["virsh", "-q", "-c", URI, *arguments],
            timeout_s=timeout_s,
            check=check,
            stdin=stdin,
            env={"LC_ALL": "C.UTF-8"},
        )

    # -- the daemon -------------------------------------------------------------------------------------------------

    def answers(self) -> bool:
        """Whether the daemon is there and lets us in."""
        try:
            return self.virsh("uri", timeout_s=10, check=False).code == 0
        except CommandError:
            return False

    def start(self, clock: Clock, root: Path = Path("/")) -> None:
        """Start the daemon where it does not run: through systemd, or by hand where there is none."""
        if self.answers():
            return
        if (root / "run/systemd/system").exists():
            self._shell.run(["systemctl", "start", "libvirtd.service"], timeout_s=_DAEMON_S)
        else:
            (root / "run/libvirt").mkdir(parents=True, exist_ok=True)
            for daemon in ("virtlogd", "libvirtd"):
                # Each puts itself into the background, or ends at once where another one runs already.
                self._shell.run([daemon, "--daemon"], timeout_s=_DAEMON_S, check=False)
        try:
            wait_for(self.answers, what="libvirtd to answer", deadline_s=_DAEMON_S, clock=clock)
        except DeadlineExceeded as error:
            raise LabError(
                f"libvirtd does not answer at {URI}",
                hint="start it by hand and read what it says: `virtlogd -d; libvirtd`",
            ) from error

    # -- domains ----------------------------------------------------------------------------------------------------

    def domains(self, prefix: str = "") -> dict[str, Power]:
        """State of each domain whose name starts with `prefix`."""
        found = {}
        for line in self.virsh("list", "--all").stdout.splitlines():
            words = line.split(None, 2)  # id or "-", name, state of one or more words
            if len(words) == 3 and words[1].startswith(prefix):
                found[words[1]] = _STATES.get(words[2].strip(), Power.OFF)
        return found

    def xml(self, domain: str) -> ET.Element:
        """The domain's description, live where it runs."""
        return ET.fromstring(self.virsh("dumpxml", domain).stdout)  # noqa: S314 - from the host's own libvirt

    def monitor(self, domain: str, command: str, *, timeout_s: float = _COMMAND_S) -> str:
        """Run a command of QEMU's human monitor; LabError where it answers with an error."""
        answer = self.virsh("qemu-monitor-command", domain, "--hmp", command, timeout_s=timeout_s).stdout.strip()
        if answer.startswith(("Error", "Could not", "error")) or "does not exist" in answer:
            raise LabError(f"QEMU refused `{command}` for {domain}: {answer}")
        return answer

    # -- networks ---------------------------------------------------------------------------------------------------

    def networks(self) -> Mapping[str, bool]:
        """Whether each network is active, by name."""
        rows = (line.split() for line in self.virsh("net-list", "--all").stdout.splitlines())
        return {row[0]: row[1] == "active" for row in rows if len(row) >= 2}

    def network_xml(self, name: str) -> ET.Element:
        """The network's description."""
        return ET.fromstring(self.virsh("net-dumpxml", name).stdout)  # noqa: S314 - from the host's own libvirt
