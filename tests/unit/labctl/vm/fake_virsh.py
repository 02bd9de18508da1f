"""A virsh that keeps domains, networks and snapshots in memory, and notes what it was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labctl.runtime.shell import CommandError, Output

_WORDS = {"start": "running", "resume": "running", "suspend": "paused", "destroy": "shut off"}


@dataclass
class Domain:
    """As libvirt sees a machine."""

    state: str = "running"
    mac: str = ""
    description: str = ""
    kernel: str = ""
    link: str = "up"
    snapshots: dict[str, str] = field(default_factory=dict)  # name -> time of its making


class FakeVirsh:
    """Implements `Shell` for virsh alone."""

    def __init__(self, domains: Mapping[str, Domain] | None = None, networks: Mapping[str, str] | None = None) -> None:
        self.domains = dict(domains or {})
        self.networks = dict(networks or {})  # name -> XML
        self.active = set(self.networks)
        self.asked: list[str] = []
        self.refused: set[str] = set()  # commands that fail, as "snapshot-create-as labctl.demo.worker1"
        self._ticks = 0

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        stdin: str | bytes = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Output:
        words = list(argv)
        assert words[:4] == ["virsh", "-q", "-c", "qemu:///system"]
        words = words[4:]
        self.asked.append(" ".join(words))
        try:
            if " ".join(words[:2]) in self.refused:
                raise KeyError(words[-1])
            answer = self._answer(words[0], words[1:], stdin if isinstance(stdin, str) else stdin.decode())
        except KeyError as error:
            if check:
                raise CommandError(f"virsh exited with 1: no {error}", code=1) from error
            return Output(1, "", f"no {error}")
        return Output(0, answer, "")

    def _answer(self, command: str, words: Sequence[str], stdin: str) -> str:
        handler = getattr(self, f"_{command.replace('-', '_')}", None)
        if handler is not None:
            told: str = handler(*words)
            return told
        if command in _WORDS:
            self.domains[words[0]].state = _WORDS[command]
        elif command == "net-define":
            name = stdin.partition("<name>")[2].partition("</name>")[0]
            self.networks[name] = stdin
        return ""

    def _list(self, *_: str) -> str:
        return "".join(f" 1   {name}   {domain.state}\n" for name, domain in self.domains.items())

    def _dumpxml(self, name: str) -> str:
        domain = self.domains[name]
        card = (
            f'<interface><mac address="{domain.mac}"/><link state="{domain.link}"/></interface>' if domain.mac else ""
        )
        return (
            f"<domain><description>{domain.description}</description><os><kernel>{domain.kernel}</kernel></os>"
            f"<devices>{card}</devices></domain>"
        )

    def _undefine(self, name: str, *_: str) -> str:
        del self.domains[name]
        return ""

    def _domif_setlink(self, name: str, mac: str, state: str, *_: str) -> str:
        assert mac == self.domains[name].mac
        self.domains[name].link = state
        return ""

    def _net_list(self, *_: str) -> str:
        return "".join(f" {name} {'active' if name in self.active else 'inactive'} no yes\n" for name in self.networks)

    def _net_dumpxml(self, name: str) -> str:
        return self.networks[name]

    def _net_start(self, name: str) -> str:
        self.active.add(name)
        return ""

    def _net_undefine(self, name: str) -> str:
        del self.networks[name]
        return ""

    def _pool_list(self, *_: str) -> str:
        return " labctl   active   no\n"

    def _snapshot_create_as(self, name: str, snapshot: str) -> str:
        self._ticks += 1
        self.domains[name].snapshots[snapshot] = f"2026-01-01 00:00:{self._ticks:02d} +0000"
        return ""

    def _snapshot_list(self, name: str) -> str:
        return "".join(f" {name_}   {time}   paused\n" for name_, time in self.domains[name].snapshots.items())

    def _snapshot_info(self, name: str, snapshot: str) -> str:
        return self.domains[name].snapshots[snapshot]

    def _snapshot_delete(self, name: str, snapshot: str) -> str:
        del self.domains[name].snapshots[snapshot]
        return ""

    def _snapshot_revert(self, name: str, snapshot: str, *_: str) -> str:
        assert snapshot in self.domains[name].snapshots
        self.domains[name].state = "paused"
        return ""

    def _qemu_monitor_command(self, name: str, *words: str) -> str:
        snapshot = words[-1].partition("loadvm ")[2]
        return "" if snapshot in self.domains[name].snapshots else f"Error: Snapshot '{snapshot}' does not exist"
