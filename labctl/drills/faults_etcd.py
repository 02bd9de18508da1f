"""etcd without room: its alarm NOSPACE, which it raises by itself when its quota is reached."""

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


@dataclass(frozen=True, slots=True)
class NoSpace(OnNode):
    """Raise the alarm NOSPACE for the etcd of a node: the whole cluster of etcds then refuses whatever needs room.

    Not by filling a gigabyte, which is its quota: what follows is the same.
    """

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"raise the alarm NOSPACE of the etcd of {self.node}, as when its quota is reached"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        script = f'{ETCDCTL} alarm disarm >/dev/null && test -z "$({ETCDCTL} alarm list)"'
        return (Inside(node=self.node, script=script, what=f"disarm the alarms of the etcd of {self.node}"),)

    def inject(self, target: Target) -> None:
        """By etcd's own API, which has a word for it; etcdctl has none."""
        own = f"{ETCDCTL} endpoint status -w json | sed -n 's/.*\"member_id\":\\([0-9]*\\).*/\\1/p'"
        certificates = f"--cacert {_PKI}/ca.crt --cert {_PKI}/client.crt --key {_PKI}/client.key"
        body = '{"action":"ACTIVATE","alarm":"NOSPACE","memberID":"%s"}'
        ask = f'curl -sf -m 10 {certificates} https://127.0.0.1:2379/v3/maintenance/alarm -d "$body"'
        inside(target, self.node, f"body=$(printf '{body}' $({own})); {ask} >/dev/null")

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:  # noqa: ARG002 - a Fault's signature
        """It refuses to write a key."""
        try:
            inside(target, self.node, f"{ETCDCTL} put labctl-drill-no-space 1 2>&1")
        except LabError as error:
            return _REFUSED in str(error), f"the etcd of {self.node}: {error}"
        inside(target, self.node, f"{ETCDCTL} del labctl-drill-no-space")
        return False, f"the etcd of {self.node} still takes what is written"
