"""Keeps the nftables table: one transaction a change, none without one, and again when somebody else touched it."""

from __future__ import annotations

import logging

import msgspec

from agents.proxy import render
from agents.proxy.netlink import Kernel
from agents.proxy.render import Names, Ruleset
from labctl.runtime.errors import LabError
from labctl.runtime.shell import CommandError, Shell

_log = logging.getLogger(__name__)

_DEADLINE_S = 60.0


class Rules:
    """The table `labctl-proxy` of one network namespace."""

    def __init__(self, shell: Shell, kernel: Kernel) -> None:
        self._shell, self._kernel = shell, kernel
        self._applied = ""
        self._names: Names | None = None  # None: not known, to be read
        self._generation = -1

    def apply(self, wanted: Ruleset, *, look: bool) -> bool:
        """Make it so; with `look`, also where others changed any rule since. True if nft had to run."""
        text = render.script(wanted, Names())
        if text == self._applied and not (look and self._touched()):
            return False
        self._applied = ""
        before = self._names if self._names is not None and not self._touched() else self._read()
        self._names = None
        try:
            self._nft(render.script(wanted, before))
        except CommandError as error:
            # Whatever stands there does not fit ours, e.g. an older version's: begin anew, in one transaction still.
            _log.warning("the table is made anew: %s", error)
            self._nft(f"add table ip {render.TABLE}\ndelete table ip {render.TABLE}\n{text}")
            before = Names()
        names = wanted.names()
        if stale := before.chains - names.chains:
            swept = self._shell.run(["nft", "-f", "-"], stdin=render.sweep(stale), timeout_s=_DEADLINE_S, check=False)
            if swept.code:
                names = Names(names.chains | stale, names.sets)
        self._names, self._applied, self._generation = names, text, self._now()
        return True

    def _nft(self, script: str) -> None:
        self._shell.run(["nft", "-f", "-"], stdin=script, timeout_s=_DEADLINE_S)

    def _touched(self) -> bool:
        return self._generation < 0 or self._now() != self._generation

    def _now(self) -> int:
        try:
            return self._kernel.generation()
        except LabError:
            return -1

    def _read(self) -> Names:
        """What an earlier life of ours, or somebody else, left in the table."""
        words = ["nft", "--json", "--terse", "list", "table", "ip", render.TABLE]
        listed = self._shell.run(words, timeout_s=_DEADLINE_S, check=False)
        if listed.code:
            return Names()
        entries = msgspec.json.decode(listed.stdout)["nftables"]
        chains = {entry["chain"]["name"] for entry in entries if "chain" in entry}
        sets = {entry["set"]["name"] for entry in entries if "set" in entry}
        return Names(frozenset(chains), frozenset(name for name in sets if name.startswith("aff/")))
