"""When probes are asked, what a run of answers means, and one try of each kind against real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest

from agents.kubelet.checks import Checker, Result, Target
from agents.kubelet.fake import FakeRuntime
from agents.kubelet.probes import Probes, Run, Subject, fold, verdict
from agents.kubelet.views import Container, Probe
from labctl.runtime.clock import FakeClock
from tests.unit.agents.kubelet.world import container

GOOD, BAD = Result(True), Result(False, "no")


def view(**probes: object) -> Container:
    return msgspec.convert(container("app", **probes), Container)


def after(probe: Probe, *results: Result) -> Run:
    run = Run()
    for result in results:
        run = fold(run, result, probe)
    return run


def test_an_answer_changes_only_at_its_threshold() -> None:
    probe = Probe(success_threshold=2, failure_threshold=3)
    assert after(probe, GOOD).good is None
    assert after(probe, GOOD, GOOD).good is True
    assert after(probe, GOOD, GOOD, BAD, BAD, GOOD, BAD, BAD).good is True
    assert after(probe, GOOD, GOOD, BAD, BAD, BAD).good is False


def test_a_verdict_names_the_probe_that_gave_up() -> None:
    both = view(livenessProbe={"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 4})
    told = verdict(both, {"liveness": Run(False, False, 3)})
    assert (told.condemned, told.grace_s) == ("Container app failed liveness probe, will be restarted", 4.0)


class Asked(Checker):
    """Answers from a script and notes when it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.times, self.ok = clock, [], True  # type: ignore[var-annotated]

    def run(self, action: object, target: Target, *, timeout_s: float) -> Result:
        self.times.append(self.clock.monotonic_s() - 1_000.0)
        return Result(self.ok, "" if self.ok else "refused")


class World:
    def __init__(self, **probes: object) -> None:
        self.clock = FakeClock()
        self.checker = Asked(self.clock)
        self.failures: list[str] = []
        self.probes = Probes(
            self.checker, self.clock, on_change=lambda: None, on_failure=lambda *a: self.failures.append(a[3])
        )
        self.probes.follow({"c1": Subject(view(**probes), Target("c1", "127.0.0.1"), 0.0, False)})

    def run(self, seconds: float) -> None:
        end_s = self.clock.monotonic_s() + seconds
        while (wait_s := self.probes.run_due()) + self.clock.monotonic_s() <= end_s:
            self.clock.advance(wait_s)
        self.clock.advance(end_s - self.clock.monotonic_s())


def test_probes_keep_their_delay_and_period() -> None:
    world = World(livenessProbe={"tcpSocket": {"port": 1}, "initialDelaySeconds": 3, "periodSeconds": 5})
    world.run(14)
    assert world.checker.times == [3.0, 8.0, 13.0]


def test_a_container_that_is_not_ready_yet_is_asked_more_often_without_an_outcry() -> None:
    world = World(readinessProbe={"tcpSocket": {"port": 1}, "periodSeconds": 10})
    world.checker.ok = False
    world.run(3)
    assert world.checker.times[:4] == [0.0, 0.25, 0.75, 1.75]
    assert world.failures == []
    world.checker.ok = True
    world.run(1)
    assert world.probes.verdicts()["c1"].ready
    asked = len(world.checker.times)
    world.run(9)
    assert len(world.checker.times) - asked <= 1
    world.checker.ok = False
    world.run(60)
    assert not world.probes.verdicts()["c1"].ready
    assert world.failures[0] == "refused"


def test_a_condemned_container_is_asked_no_more() -> None:
    world = World(livenessProbe={"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 2})
    world.checker.ok = False
    world.run(30)
    assert len(world.checker.times) == 2


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.send_header("X-Host", self.headers["Host"])
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    found = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found.server_port
    found.shutdown()
    found.server_close()


@pytest.mark.parametrize(("code", "ok"), [(200, True), (302, True), (399, True), (404, False), (500, False)])
def test_http_is_good_from_200_to_399(server: int, code: int, ok: bool) -> None:
    action = msgspec.convert({"httpGet": {"path": f"/{code}", "port": "web"}}, Probe)
    clock = FakeClock()
    result = Checker(FakeRuntime(clock), clock).run(action, Target("c", "127.0.0.1", {"web": server}), timeout_s=5)
    assert result.ok is ok


def test_tcp_is_good_where_somebody_listens(server: int) -> None:
    clock = FakeClock()
    checker, target = Checker(FakeRuntime(clock), clock), Target("c", "127.0.0.1")
    assert checker.run(msgspec.convert({"tcpSocket": {"port": server}}, Probe), target, timeout_s=5).ok
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = msgspec.convert({"tcpSocket": {"port": free.getsockname()[1]}}, Probe)
        assert "refused" in checker.run(closed, target, timeout_s=5).message


def test_the_same_failure_reads_the_same_twice() -> None:
    clock = FakeClock()
    checker, target = Checker(FakeRuntime(clock), clock), Target("c", "127.0.0.1")
    action = msgspec.convert({"httpGet": {"port": 1}}, Probe)
    first, second = (checker.run(action, target, timeout_s=5).message for _ in range(2))
    assert first == second
    assert "refused" in first
