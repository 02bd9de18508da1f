"""Telling the workers that the lab as a whole is halted: their pods stay as they are, and run again after `up`."""

from __future__ import annotations

import contextlib

from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.vm import ssh
from labctl.vm.parallel import each
from labctl.vm.provider import Power, Provider, Site
from labctl.vm.topology import Machine

_ASK_S = 10.0
# Read by agents/kubelet/assembly.py; /run is emptied by a boot.
_TELL = "mkdir -p /run/labctl && touch /run/labctl/keep-pods"


def keep_pods(site: Site, provider: Provider, clock: Clock) -> None:
    """Best effort: a worker that cannot be told ends its pods in order, and others take their place after `up`."""
    states = provider.power(site)

    def one(machine: Machine) -> None:
        with contextlib.suppress(LabError):
            if states.get(machine.name) is Power.SUSPENDED:
                provider.resume(site, machine.name)
            with ssh.connect(site, machine, deadline_s=_ASK_S, clock=clock) as connection:
                connection.run(_TELL, timeout_s=_ASK_S)

    live = (Power.RUNNING, Power.SUSPENDED)
    each([one for one in site.topology.machines if one.role == "worker" and states.get(one.name) in live], one)
