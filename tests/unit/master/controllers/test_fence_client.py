"""The controllers' call to the fence agent, over the wire."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from labctl.config import LabConfig
from labctl.runtime.clock import SystemClock
from labctl.vm.fence.agent import Agent, Server
from labctl.vm.layout import lay_out
from labctl.vm.pki import Pki
from labctl.vm.state import LabState
from labctl.vm.topology import Machine
from master.controllers.config import FenceAgent
from master.controllers.fence_client import FenceClient, FencingFailed, nobody

HERE = f"127.{os.getpid() >> 8 & 255}.{os.getpid() & 255}.8"


class Power:
    """A backend that does as it is told."""

    def power_off(self, machine: Machine) -> str:
        return f"{machine.name} is off"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FenceAgent]:
    state = LabState(tmp_path, "t")
    topology = msgspec.structs.replace(lay_out(LabConfig(name="t"), None, []), host_address=HERE)
    state.save_topology(topology)
    Pki(state.dir).issue(topology)
    pki = state.dir / "pki"
    server = Server((HERE, 0), Agent(state, Power(), tmp_path, SystemClock()), pki)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield FenceAgent(
        url=f"https://{HERE}:{server.server_address[1]}",
        ca_file=str(pki / "ca.crt"),
        cert_file=str(pki / "fence-client.crt"),
        key_file=str(pki / "fence-client.key"),
    )
    server.shutdown()
    server.server_close()


def test_the_evidence_comes_back(agent: FenceAgent) -> None:
    assert FenceClient(agent).power_off("worker1") == "worker1 is off"


def test_a_refusal_is_told_in_the_agents_words(agent: FenceAgent) -> None:
    with pytest.raises(FencingFailed, match="no worker 'worker9'"):
        FenceClient(agent).power_off("worker9")


def test_an_agent_that_is_not_there_confirms_nothing(agent: FenceAgent) -> None:
    gone = msgspec.structs.replace(agent, url=f"https://{HERE}:1")
    with pytest.raises(FencingFailed, match="does not answer"):
        FenceClient(gone).power_off("worker1")


def test_another_server_in_its_place_is_not_believed(agent: FenceAgent, tmp_path: Path) -> None:
    Pki(tmp_path / "other").issue(lay_out(LabConfig(name="o"), None, []))
    fooled = msgspec.structs.replace(agent, ca_file=str(tmp_path / "other" / "pki" / "ca.crt"))
    with pytest.raises(FencingFailed):
        FenceClient(fooled).power_off("worker1")


def test_without_an_agent_nothing_is_confirmed() -> None:
    with pytest.raises(FencingFailed, match="no fence agent"):
        nobody("worker1")
