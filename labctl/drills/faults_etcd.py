"""etcd without room: its quota is brought down to a little more than it holds, and filled by writes of our own.

The quota comes from a drop-in under /run, which no boot survives, and is in force from etcd's next start on. What is
undone is what a person does: delete, compact, defragment, disarm.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.drills.actions import Action, Inside, inside
from labctl.drills.faults import OnNode
from labctl.drills.target import Target
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError

_PKI = "/etc/labctl/pki/etcd"
ETCDCTL = (
    f"ETCDCTL_API=3 etcdctl --endpoints=https://127.0.0.1:2379 --cacert={_PKI}/ca.crt --cert={_PKI}/client.crt "
    f"--key={_PKI}/client.key --command-timeout=10s"
)
_REFUSED = "database space exceeded"
_ROOM_BYTES = 4 << 20  # what the lab itself writes in the meantime must fit
_VALUE_BYTES = 1 << 20  # below etcd's limit of a request
_VALUES = 64  # more than any quota of ours holds
_KEYS = "labctl-drill-fill/"
_ENV, _FILL = "/run/labctl-drill-etcd.env", "/run/labctl-drill-etcd.fill"
_MARK = "LABCTL_DRILL_QUOTA"  # in the environment of an etcd that has it
_STATUS = f"{ETCDCTL} endpoint status -w json"
_DISARM = f'{ETCDCTL} alarm disarm >/dev/null && test -z "$({ETCDCTL} alarm list)"'


@dataclass(frozen=True, slots=True)
class TightQuota(OnNode):
    """Leave the etcd of a node room for 4 MiB more, from its next start on. Undone, it starts with its usual quota."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"give the etcd of {self.node} a quota of 4 MiB more than it holds, from its next start on"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`. An alarm that was raised under that quota outlasts it."""
        unit = target.unit("etcd")
        script = (
            f"if [ -e {_drop_in(unit)} ]; then rm -f {_drop_in(unit)} {_ENV}; "
            f"rmdir $(dirname {_drop_in(unit)}) 2>/dev/null; systemctl daemon-reload; fi; "
            f"main=$(systemctl show --property MainPID --value {unit}); "
            f'if grep -qz "^{_MARK}=" "/proc/$main/environ" 2>/dev/null; then systemctl restart {unit}; '
            f"else systemctl start {unit}; fi; {_DISARM}"
        )
        return (Inside(node=self.node, script=script, what=f"give the etcd of {self.node} its usual quota"),)

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        drop_in = _drop_in(target.unit("etcd"))
        script = (
            f'set -e; size={_figure("dbSize")}; test -n "$size"; '
            f"printf '{_MARK}=1\\nETCD_QUOTA_BACKEND_BYTES=%d\\n' $((size + {_ROOM_BYTES})) > {_ENV}; "
            f"mkdir -p $(dirname {drop_in}); printf '[Service]\\nEnvironmentFile={_ENV}\\n' > {drop_in}; "
            "systemctl daemon-reload"
        )
        inside(target, self.node, script)

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:  # noqa: ARG002 - a Fault's signature
        """The service manager will start it so."""
        show = f"systemctl show --property EnvironmentFiles {target.unit('etcd')}; cat {_ENV}"
        told = inside(target, self.node, show)
        quota = told.rpartition("ETCD_QUOTA_BACKEND_BYTES=")[2]
        return _ENV in told and quota.isdigit(), f"the etcd of {self.node} starts with a quota of {quota} bytes next"


@dataclass(frozen=True, slots=True)
class NoSpace(OnNode):
    """Fill the etcd of a node until its quota is reached: it raises the alarm NOSPACE, and all etcds refuse writes.

    By at most 64 values of 1 MiB, so it does not take unless `TightQuota` is in force.
    """

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"fill the etcd of {self.node} up to its quota: NOSPACE"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`. What was written is deleted, and its room given back, which etcd does not do by itself."""
        compact = f"{ETCDCTL} compaction --physical {_figure('revision')} >/dev/null 2>&1"
        script = (
            f'rm -f {_FILL}; gone=$({ETCDCTL} del --prefix {_KEYS}) || exit 1; if [ "$gone" != 0 ]; then '
            f"{compact}; {ETCDCTL} defrag >/dev/null || exit 1; fi; {_DISARM}"
        )
        what = f"delete what filled the etcd of {self.node}, compact and defragment it, disarm its alarm"
        return (Inside(node=self.node, script=script, what=what),)

    def inject(self, target: Target) -> None:
        """See `Fault`; it ends with the first value that is refused."""
        script = (
            f"head -c {_VALUE_BYTES} /dev/zero | tr '\\0' x > {_FILL}; number=0; "
            f"while [ $number -lt {_VALUES} ] && {ETCDCTL} put {_KEYS}$number < {_FILL} >/dev/null 2>&1; "
            f"do number=$((number + 1)); done; rm -f {_FILL}"
        )
        inside(target, self.node, script)

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:  # noqa: ARG002 - a Fault's signature
        """It has raised its alarm, and refuses to write a key for that reason."""
        count = f"{ETCDCTL} get --prefix {_KEYS} --keys-only | grep -c {_KEYS}; {ETCDCTL} alarm list"
        filled, _, alarm = inside(target, self.node, count).partition("\n")
        try:
            inside(target, self.node, f"{ETCDCTL} put {_KEYS}more 1 2>&1")
        except LabError as error:
            took = _REFUSED in str(error) and "NOSPACE" in alarm
            return took, f"after {filled} MiB more: the etcd of {self.node}: {error}"
        return False, f"the etcd of {self.node} still takes what is written, after {filled} MiB more"


def _drop_in(unit: str) -> str:
    return f"/run/systemd/system/{unit}.d/zz-labctl-drill.conf"


def _figure(name: str) -> str:
    """A shell's words for one figure of etcd's own status."""
    return f"$({_STATUS} | tr ',{{}}' '\\n' | sed -n 's/^\"{name}\"://p')"
