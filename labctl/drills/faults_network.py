"""Faults of the network, made in the machine itself by packet rules in a table of the drill's own.

This host's ssh to the machine is never touched, so the heal always reaches it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from labctl.drills.actions import Action, Inside, inside
from labctl.drills.faults import OnNode
from labctl.drills.records import Scene
from labctl.drills.target import Target
from labctl.runtime.clock import Clock

_PROBE_S = 2


@dataclass(frozen=True, slots=True)
class Cut(OnNode):
    """Drop what a node and some peers send each other: both ways, or only what the node sends (`one_way`).

    `peers`: name -> addresses and networks that packets of the peer bear (its own, its pods'). With `port` only
    packets to that TCP port of the peers are dropped, and only on their way out.
    """

    peers: tuple[tuple[str, tuple[str, ...]], ...]
    one_way: bool = False
    port: int = 0

    @property
    def text(self) -> str:
        """See `Fault`."""
        names = ", ".join(name for name, _ in self.peers)
        if self.one_way or self.port:
            return f"drop what {self.node} sends to {names}{f' port {self.port}' if self.port else ''}"
        return f"cut {self.node} from {names}"

    @property
    def table(self) -> str:
        """The table's name, of its own for each cut."""
        return f"labctl_drill_{hashlib.sha256(self.text.encode()).hexdigest()[:8]}"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        script = f"nft delete table inet {self.table} 2>/dev/null; ! nft list table inet {self.table} >/dev/null 2>&1"
        return (Inside(node=self.node, script=script, what=f"let {self.node} reach its peers again"),)

    def inject(self, target: Target) -> None:
        """One transaction: all rules at once or none."""
        inside(target, self.node, f"nft -f - <<'END'\n{rules(self)}END")

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:  # noqa: ARG002 - a Fault's signature
        """A connection that the node tries to open to each peer is not answered."""
        inside(target, self.node, f"nft list table inet {self.table} >/dev/null")
        for name, addresses in self.peers:
            to = f"/dev/tcp/{addresses[0]}/{self.port or 22}"
            script = f"timeout {_PROBE_S} bash -c '<{to}' 2>/dev/null && echo open || true"
            if inside(target, self.node, script):
                return False, f"{self.node} still reaches {name} ({to})"
        return True, f"{self.node} reaches none of {', '.join(name for name, _ in self.peers)}"


def peers(scene: Scene, names: Iterable[str], *, pods: bool = False) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Peers for a `Cut`: a machine's address, that which masters share, and with `pods` its pods' network. Pure."""
    found = []
    for name in names:
        shared = scene.virtual_address if name in scene.masters else ""
        network = scene.pod_networks.get(name, "") if pods else ""
        found.append((name, tuple(filter(None, (scene.machines[name], shared, network)))))
    return tuple(found)


def rules(cut: Cut) -> str:
    """The table, as nft reads it. Pure."""
    addresses = ", ".join(dict.fromkeys(address for _, found in cut.peers for address in found))
    port = f"tcp dport {cut.port} " if cut.port else ""
    lines = [
        f"table inet {cut.table} {{",
        "  chain sent { type filter hook postrouting priority -300; policy accept;",
        f"    ip daddr {{ {addresses} }} {port}counter drop",
        "  }",
    ]
    if not cut.one_way and not cut.port:
        lines += [
            "  chain received { type filter hook prerouting priority -300; policy accept;",
            f"    ip saddr {{ {addresses} }} counter drop",
            "  }",
        ]
    return "\n".join([*lines, "}", ""])
