"""Provider `fake`: machines that exist in this process's memory only. For tests; obeys the same contract."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from labctl.runtime.errors import LabError, UsageError
from labctl.vm.provider import Link, Power, Problem, Progress, Site

_LIVE = (Power.RUNNING, Power.SUSPENDED)


@dataclass(slots=True)
class _Lab:
    power: dict[str, Power] = field(default_factory=dict)  # machines that were made
    links: dict[str, Link] = field(default_factory=dict)
    boots: dict[str, int] = field(default_factory=dict)
    snapshots: list[str] = field(default_factory=list)


class FakeProvider:
    """See `Provider`. Labs are told apart by their folders, as real ones are."""

    name = "fake"

    def __init__(self) -> None:
        self._labs: dict[str, _Lab] = {}
        self._lock = threading.RLock()

    def problems(self) -> Sequence[Problem]:
        """See `Provider`."""
        return ()

    def describe(self) -> str:
        """See `Provider`."""
        return "machines in memory only: nothing can be reached or run on them"

    def slowness(self) -> float:
        """See `Provider`."""
        return 1.0

    def up(self, site: Site, names: Sequence[str], progress: Progress) -> None:
        """See `Provider`."""
        for name in self._names(site, names):
            with self._lock:
                state = self.power(site)[name]
                if state is Power.SUSPENDED:
                    self.resume(site, name)
                elif state is not Power.RUNNING:
                    self._start(site, name)
            progress(name, "running")

    def halt(self, site: Site, names: Sequence[str], progress: Progress) -> None:
        """See `Provider`."""
        for name in self._names(site, names):
            if self.power(site)[name] in _LIVE:
                self.power_off(site, name)
                progress(name, "halted")

    def destroy(self, site: Site, progress: Progress) -> None:
        """See `Provider`."""
        with self._lock:
            gone = self._labs.pop(str(site.state_dir), _Lab())
        for name in gone.power:
            progress(name, "destroyed")

    def power(self, site: Site) -> dict[str, Power]:
        """See `Provider`."""
        with self._lock:
            made = self._lab(site).power
            return {machine.name: made.get(machine.name, Power.ABSENT) for machine in site.topology.machines}

    def reaches(self, site: Site, name: str) -> bool:
        """Whether a message would get to the machine and be answered; for tests."""
        with self._lock:
            return self.power(site)[name] is Power.RUNNING and self._lab(site).links[name] is Link.UP

    def boots(self, site: Site, name: str) -> int:
        """How often the machine started; for tests."""
        with self._lock:
            return self._lab(site).boots.get(name, 0)

    def power_off(self, site: Site, name: str) -> None:
        """See `Provider`."""
        with self._lock:
            self._made(site, name)
            self._lab(site).power[name] = Power.OFF

    def power_on(self, site: Site, name: str) -> None:
        """See `Provider`."""
        with self._lock:
            self._made(site, name)
            if self._lab(site).power[name] is Power.OFF:
                self._start(site, name)

    def reset(self, site: Site, name: str) -> None:
        """See `Provider`."""
        with self._lock:
            self.power_off(site, name)
            self.power_on(site, name)

    def suspend(self, site: Site, name: str) -> None:
        """See `Provider`."""
        with self._lock:
            self._live(site, name)
            self._lab(site).power[name] = Power.SUSPENDED

    def resume(self, site: Site, name: str) -> None:
        """See `Provider`."""
        with self._lock:
            self._live(site, name)
            self._lab(site).power[name] = Power.RUNNING

    def set_link(self, site: Site, name: str, link: Link) -> None:
        """See `Provider`."""
        with self._lock:
            self._live(site, name)
            self._lab(site).links[name] = link

    def snapshot_save(self, site: Site, snapshot: str) -> None:
        """See `Provider`."""
        with self._lock:
            for machine in site.topology.machines:
                self._made(site, machine.name)
            if snapshot in self._lab(site).snapshots:
                raise UsageError(f"snapshot {snapshot!r} exists", hint="delete it first, or choose another name")
            self._lab(site).snapshots.append(snapshot)

    def snapshot_restore(self, site: Site, snapshot: str) -> None:
        """See `Provider`."""
        with self._lock:
            if snapshot not in self._lab(site).snapshots:
                raise UsageError(f"there is no snapshot {snapshot!r} of this lab", hint="see `labctl snapshot list`")
            for machine in site.topology.machines:
                self._start(site, machine.name)

    def snapshot_list(self, site: Site) -> Sequence[str]:
        """See `Provider`."""
        with self._lock:
            return list(self._lab(site).snapshots)

    def snapshot_delete(self, site: Site, snapshot: str) -> None:
        """See `Provider`."""
        with self._lock:
            kept = self._lab(site).snapshots
            kept[:] = [name for name in kept if name != snapshot]

    def _lab(self, site: Site) -> _Lab:
        return self._labs.setdefault(str(site.state_dir), _Lab())

    def _start(self, site: Site, name: str) -> None:
        lab = self._lab(site)
        lab.power[name], lab.links[name] = Power.RUNNING, Link.UP
        lab.boots[name] = lab.boots.get(name, 0) + 1

    def _names(self, site: Site, names: Sequence[str]) -> list[str]:
        known = [machine.name for machine in site.topology.machines]
        for name in names:
            self._known(site, name)
        return list(names) or known

    def _known(self, site: Site, name: str) -> None:
        if site.topology.machine(name) is None:
            raise UsageError(f"lab {site.topology.lab!r} has no machine {name!r}")

    def _made(self, site: Site, name: str) -> None:
        self._known(site, name)
        if name not in self._lab(site).power:
            raise LabError(f"{name} was never made", hint="`labctl up` makes it")

    def _live(self, site: Site, name: str) -> None:
        self._made(site, name)
        if self._lab(site).power[name] not in _LIVE:
            raise LabError(f"{name} is off", hint="power it on first")


PROVIDER = FakeProvider()
