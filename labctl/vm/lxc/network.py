"""A lab's network on this host: one bridge that carries its name in an alias, so that no lab touches another's."""

from __future__ import annotations

import json
import shutil
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from labctl.runtime.errors import LabError
from labctl.runtime.shell import Shell
from labctl.vm.topology import Topology

_BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


class Bridge:
    """The bridge of one lab; `owner` says whose it is, e.g. the lab's folder."""

    def __init__(self, topology: Topology, owner: str, shell: Shell) -> None:
        self._topology, self._shell = topology, shell
        self._name = topology.bridge
        self._mark = f"labctl {owner}"[:255]  # IFALIASZ

    def make(self) -> None:
        """Make the bridge where it is absent, with this host's address on it; LabError where it cannot be."""
        link = self._link()
        if link is None:
            self._check_network_is_free()
            self._ip("link", "add", self._name, "type", "bridge", "stp_state", "0", "forward_delay", "0")
            self._ip("link", "set", self._name, "alias", self._mark)
        elif link.get("ifalias") != self._mark:
            raise LabError(
                f"network device {self._name} belongs to {link.get('ifalias') or 'somebody else'}",
                hint="destroy that lab first, or give this one another name",
            )
        prefix_length = self._topology.network_cidr.rpartition("/")[2]
        self._ip("addr", "replace", f"{self._topology.host_address}/{prefix_length}", "dev", self._name)
        self._ip("link", "set", self._name, "up")
        self._let_through()

    def remove(self) -> None:
        """Remove the bridge, its ports' host ends and its firewall rule, where they are ours."""
        link = self._link()
        if link is not None and link.get("ifalias") == self._mark:
            for port in self._links("master", self._name):
                self._shell.run(["ip", "link", "del", port["ifname"]], timeout_s=10, check=False)
            self._ip("link", "del", self._name)
        self._rule("-D")

    def _ip(self, *arguments: str) -> None:
        self._shell.run(["ip", *arguments], timeout_s=10)

    def _links(self, *selector: str) -> list[dict[str, Any]]:
        done = self._shell.run(["ip", "-json", "-details", "link", "show", *selector], timeout_s=10, check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout or "[]") if done.code == 0 else []
        return [link for link in found if link]

    def _link(self) -> dict[str, Any] | None:
        return next(iter(self._links("dev", self._name)), None)

    def _check_network_is_free(self) -> None:
        wanted = IPv4Network(self._topology.network_cidr)
        for device in json.loads(self._shell.run(["ip", "-json", "-4", "addr"], timeout_s=10).stdout):
            for entry in device.get("addr_info", ()):
                text = f"{entry.get('local')}/{entry.get('prefixlen')}"
                if "local" in entry and IPv4Interface(text).network.overlaps(wanted):
                    raise LabError(
                        f"{wanted} overlaps {text} on {device['ifname']}", hint="choose another `network` in lab.yaml"
                    )

    def _let_through(self) -> None:
        """Where bridged packets pass the host's iptables (Docker turns that on), let ours pass from node to node."""
        if not _BRIDGE_FILTER.exists() or _BRIDGE_FILTER.read_text().strip() == "0":
            return
        if self._rule("-C") != 0:
            self._rule("-I")

    def _rule(self, operation: str) -> int:
        if shutil.which("iptables") is None:
            return 0
        match = ["-i", self._name, "-o", self._name, "-m", "comment", "--comment", f"labctl {self._topology.lab}"]
        argv = ["iptables", "-w", "5", operation, "FORWARD", *match, "-j", "ACCEPT"]
        return self._shell.run(argv, timeout_s=10, check=False).code
