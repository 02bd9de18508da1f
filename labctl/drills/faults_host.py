"""Faults of a machine that goes on: its network gets slow, its clock jumps, its memory and processors are eaten."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.drills.actions import Action, Inside, inside
from labctl.drills.faults import OnNode
from labctl.drills.target import Target
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError

_DEVICE = "eth0"
_STAMP = "/run/labctl-drill-clock"


@dataclass(frozen=True, slots=True)
class Slow(OnNode):
    """Delay, jitter and loss on all that a node sends: tc netem, or where the kernel has none, loss alone by nft."""

    delay_ms: int = 80
    jitter_ms: int = 40
    loss_percent: int = 3

    @property
    def text(self) -> str:
        """See `Fault`."""
        jitter, loss = f"jitter {self.jitter_ms} ms", f"loss {self.loss_percent}%"
        return f"slow the network of {self.node}: {self.delay_ms} ms, {jitter}, {loss}"

    @property
    def table(self) -> str:
        """Where the drops stand."""
        return "labctl_drill_slow"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        script = (
            f"tc qdisc del dev {_DEVICE} root 2>/dev/null; nft delete table inet {self.table} 2>/dev/null; "
            f"! tc qdisc show dev {_DEVICE} | grep -q netem && ! nft list table inet {self.table} >/dev/null 2>&1"
        )
        return (Inside(node=self.node, script=script, what=f"give {self.node} its network back"),)

    def inject(self, target: Target) -> None:
        """netem where the kernel has it; a container shares its host's kernel, which may not."""
        netem = (
            f"tc qdisc replace dev {_DEVICE} root netem delay {self.delay_ms}ms {self.jitter_ms}ms "
            f"loss {self.loss_percent}%"
        )
        rule = (
            f"nft -f - <<'END'\ntable inet {self.table} {{\n  chain sent {{\n"
            "    type filter hook postrouting priority -300; policy accept;\n"
            f'    oifname "{_DEVICE}" numgen random mod 100 < {self.loss_percent} counter drop\n  }}\n}}\nEND'
        )
        inside(target, self.node, f"modprobe -q sch_netem; {netem} 2>/dev/null || {rule}")

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:  # noqa: ARG002 - a Fault's signature
        """What is in force on the machine."""
        script = (
            f"tc qdisc show dev {_DEVICE} | grep -o 'netem.*' || nft list table inet {self.table} | grep -o numgen.*"
        )
        try:
            found = inside(target, self.node, script)
        except LabError:
            return False, f"{self.node} has neither netem nor a rule that drops"
        alone = "" if found.startswith("netem") else " (loss alone: the kernel has no netem)"
        return True, f"{self.node}: {found}{alone}"


@dataclass(frozen=True, slots=True)
class StepClock(OnNode):
    """Set a machine's clock forward or back, its clock discipline stopped meanwhile."""

    seconds: int

    @property
    def text(self) -> str:
        """See `Fault`."""
        way = "ahead" if self.seconds > 0 else "back"
        return f"set the clock of {self.node} {abs(self.seconds)} s {way}"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """By the machine's own monotonic clock, so that the time the drill took is counted, and twice does no harm."""
        script = (
            f"test -e {_STAMP} || exit 0; read wall up < {_STAMP}; "
            "now=$(cut -d. -f1 /proc/uptime); date -s @$((wall + now - up)) >/dev/null && "
            f"rm -f {_STAMP}; systemctl start systemd-timesyncd 2>/dev/null || true"
        )
        return (Inside(node=self.node, script=script, what=f"set the clock of {self.node} right"),)

    def inject(self, target: Target) -> None:
        """The right time is noted first, beside the uptime."""
        script = (
            "systemctl stop systemd-timesyncd 2>/dev/null; "
            f"test -e {_STAMP} || echo $(date +%s) $(cut -d. -f1 /proc/uptime) > {_STAMP}; "
            f"date -s @$(($(date +%s) + {self.seconds})) >/dev/null"
        )
        inside(target, self.node, script)

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:  # noqa: ARG002 - a Fault's signature
        """The clock differs from what the uptime says it should be."""
        script = f"read wall up < {_STAMP}; now=$(cut -d. -f1 /proc/uptime); echo $(($(date +%s) - wall - now + up))"
        off_s = int(inside(target, self.node, script))
        return abs(off_s - self.seconds) <= 2, f"the clock of {self.node} is off by {off_s} s"
