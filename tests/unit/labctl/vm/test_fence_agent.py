"""The fence agent: powers off and confirms, obeys controllers alone, ends with its lab."""

from __future__ import annotations

import json
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from labctl.config import LabConfig
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import LocalShell
from labctl.vm.fence import service
from labctl.vm.fence.agent import Agent, Refused, Server
from labctl.vm.fence.backends import ByCommand, ByProvider
from labctl.vm.layout import lay_out
from labctl.vm.pki import Pki
from labctl.vm.provider import Power, Site
from labctl.vm.providers.fake import FakeProvider
from labctl.vm.state import LabState

HERE = f"127.{os.getpid() >> 8 & 255}.{os.getpid() & 255}.7"


@pytest.fixture
def state(tmp_path: Path) -> LabState:
    """A lab on a loopback address of this process, with certificates."""
    found = LabState(tmp_path, "t")
    topology = msgspec.structs.replace(lay_out(LabConfig(name="t"), None, []), host_address=HERE, provider="fake")
    found.save_topology(topology)
    Pki(found.dir).issue(topology)
    return found


class World:
    """An agent with machines in memory."""

    def __init__(self, state: LabState) -> None:
        self.state, self.provider = state, FakeProvider()
        self.site = Site(topology=state.topology(), state_dir=state.dir, ssh_public_key="")
        self.provider.up(self.site, (), lambda *_: None)
        self.agent = Agent(state, ByProvider(self.provider, self.site), state.dir, SystemClock())

    def power(self, name: str) -> Power:
        return self.provider.power(self.site)[name]


@pytest.fixture
def world(state: LabState) -> World:
    return World(state)


def test_a_machine_is_powered_off_and_the_answer_says_what_was_seen(world: World) -> None:
    answer = world.agent.fence("worker2")
    assert answer == {"node": "worker2", "evidence": "fake says worker2 was running and is off"}
    assert (world.power("worker1"), world.power("worker2")) == (Power.RUNNING, Power.OFF)
    assert "was off and is off" in world.agent.fence("worker2")["evidence"]


@pytest.mark.parametrize("name", ["master1", "worker9", ""])
def test_masters_and_strangers_are_never_powered_off(world: World, name: str) -> None:
    with pytest.raises(Refused, match="no worker") as refused:
        world.agent.fence(name)
    assert refused.value.status == 404
    assert set(world.provider.power(world.site).values()) == {Power.RUNNING}


def test_nothing_is_powered_off_while_somebody_works_on_the_lab(world: World) -> None:
    with world.state.locked("up"), pytest.raises(Refused, match="labctl up") as refused:
        world.agent.fence("worker1")
    assert refused.value.status == 503
    assert world.power("worker1") is Power.RUNNING


def test_a_machine_that_is_not_seen_off_is_not_called_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.provider, "power_off", lambda site, name: None)
    with pytest.raises(Refused, match="is running after") as refused:
        world.agent.fence("worker1")
    assert refused.value.status == 500


def test_a_command_of_the_users_says_off_by_its_exit_code(state: LabState) -> None:
    machine = state.topology().workers[0]
    done = ByCommand("echo $LABCTL_NODE at $LABCTL_ADDRESS is off", LocalShell()).power_off(machine)
    assert done.endswith(f"worker1 at {machine.address} is off")
    with pytest.raises(LabError, match="3"):
        ByCommand("exit 3", LocalShell()).power_off(machine)


# -- over the wire


@pytest.fixture
def url(world: World) -> Iterator[str]:
    server = Server((HERE, 0), world.agent, world.state.dir / "pki")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://{HERE}:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def ask(url: str, path: str, state: LabState, client: str = "fence-client", method: str = "POST") -> tuple[int, Any]:
    pki = state.dir / "pki"
    context = ssl.create_default_context(cafile=pki / "ca.crt")
    if client:
        context.load_cert_chain(pki / f"{client}.crt", pki / f"{client}.key")
    request = urllib.request.Request(url + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_controllers_are_obeyed(url: str, world: World) -> None:
    assert ask(url, "/healthz", world.state, method="GET") == (200, {"ok": True})
    status, body = ask(url, "/fence/worker1", world.state)
    assert (status, body["node"]) == (200, "worker1")
    assert world.power("worker1") is Power.OFF
    assert ask(url, "/fence/worker7", world.state)[0] == 404


@pytest.mark.parametrize("client", ["admin", "node-worker1", "scheduler"])
def test_nobody_else_of_the_lab_is_obeyed(url: str, world: World, client: str) -> None:
    assert ask(url, "/fence/worker1", world.state, client)[0] == 403
    assert world.power("worker1") is Power.RUNNING


def test_who_shows_no_certificate_is_not_even_heard(url: str, world: World) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - the handshake fails, in the one or other way
        ask(url, "/fence/worker1", world.state, "")
    assert world.power("worker1") is Power.RUNNING


# -- the process


def test_the_process_starts_afresh_serves_and_ends(state: LabState) -> None:
    service.start(state.dir, state.dir)
    first = service.running(state.dir)
    try:
        status, body = ask(f"https://{HERE}:7455", "/fence/worker1", state)
        assert (status, body["evidence"]) == (200, "fake says worker1 was absent and is absent")
        service.start(state.dir, state.dir)
        second = service.running(state.dir)
        assert first != second != 0
    finally:
        service.stop(state.dir)
    assert service.running(state.dir) == 0
    service.stop(state.dir)  # nothing to do


def test_the_process_ends_when_its_lab_is_gone(state: LabState) -> None:
    service.start(state.dir, state.dir)
    pid = service.running(state.dir)
    handle = os.pidfd_open(pid)
    try:
        (state.dir / "topology.json").unlink()
        wait_for(lambda: not service.running(state.dir), what="the agent's end", deadline_s=60, clock=SystemClock())
    finally:
        os.close(handle)
        service.stop(state.dir)


def test_a_process_that_cannot_serve_says_where_to_look(state: LabState) -> None:
    (state.dir / "pki" / "fence-agent.key").unlink()
    with pytest.raises(LabError, match="did not start") as failed:
        service.start(state.dir, state.dir)
    assert "agent.log" in failed.value.hint
    assert service.running(state.dir) == 0
