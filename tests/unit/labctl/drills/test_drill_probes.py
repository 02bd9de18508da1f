"""The open-loop prober, against real sockets: a fixed grid, stalls counted in full, failures told apart."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from labctl.drills.history import Recorder
from labctl.drills.probes import Load, Prober
from labctl.drills.records import Probed
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop, wait_for

CLOCK = SystemClock()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Answer = Callable[[socket.socket], None]


@contextmanager
def server(answer: Answer) -> Iterator[int]:
    """A server that treats each connection, in a thread of its own, as `answer` says."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(4096)
                answer(connection)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def probe(tmp_path: Path, port: int, *, requests: int, timeout_s: float = 5.0) -> list[Probed]:
    recorder, stop = Recorder(tmp_path / "history.jsonl", CLOCK), Stop()
    prober = Prober(Load(("127.0.0.1",), port, rate_per_s=100.0, timeout_s=timeout_s), recorder, CLOCK)
    prober.start(stop)
    wait_for(
        lambda: len(list(recorder.history().of(Probed))) >= requests,
        what="requests to end",
        deadline_s=30.0,
        clock=CLOCK,
        every_s=0.01,
    )
    stop.set()
    prober.join()
    return sorted((record for _, record in recorder.history().of(Probed)), key=lambda record: record.number)


def test_requests_lie_on_a_fixed_grid_and_each_is_recorded_once(tmp_path: Path) -> None:
    with server(lambda connection: connection.sendall(OK)) as port:
        probes = probe(tmp_path, port, requests=40)
    assert [one.number for one in probes] == list(range(len(probes)))
    steps = {round(b.intended_s - a.intended_s, 6) for a, b in pairwise(probes)}
    assert steps == {0.01}
    assert all(one.ok and one.status == 200 for one in probes)


def test_a_stall_is_counted_in_full_for_every_request_in_it(tmp_path: Path) -> None:
    gate = threading.Event()
    threading.Timer(0.4, gate.set).start()

    def stall(connection: socket.socket) -> None:
        gate.wait(5.0)
        connection.sendall(OK)

    with server(stall) as port:
        probes = probe(tmp_path, port, requests=60, timeout_s=3.0)
    # A closed loop would have sent one request in those 0.4 s; here some forty were sent and each waited its share.
    assert sum(one.latency_s > 0.1 for one in probes) >= 25
    assert max(one.latency_s for one in probes) > 0.35


def test_silence_is_a_timeout_measured_from_the_send(tmp_path: Path) -> None:
    def silent(_connection: socket.socket) -> None:
        threading.Event().wait(2.0)

    with server(silent) as port:
        probes = probe(tmp_path, port, requests=5, timeout_s=0.2)
    assert {one.error for one in probes} == {"timeout"}
    assert all(one.latency_s >= 0.2 for one in probes)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda connection: connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "HTTP 503"),
        (lambda connection: connection.close(), "no answer"),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n"), "no answer"),
    ],
)
def test_an_answer_that_is_no_success_is_a_failure(tmp_path: Path, answer: Answer, error: str) -> None:
    with server(answer) as port:
        probes = probe(tmp_path, port, requests=3)
    assert {one.error for one in probes} == {error}


def test_a_closed_port_fails_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert {one.error for one in probe(tmp_path, port, requests=3)} == {"ECONNREFUSED"}


def test_requests_take_turns_between_the_addresses(tmp_path: Path) -> None:
    recorder, stop = Recorder(tmp_path / "history.jsonl", CLOCK), Stop()
    with server(lambda connection: connection.sendall(OK)) as port:
        prober = Prober(Load(("127.0.0.1", "127.0.0.2"), port, rate_per_s=100.0, timeout_s=0.2), recorder, CLOCK)
        prober.start(stop)
        wait_for(lambda: len(recorder.history()) >= 10, what="requests", deadline_s=30.0, clock=CLOCK, every_s=0.01)
        stop.set()
        prober.join()
    probes = [record for _, record in recorder.history().of(Probed)]
    assert {one.number % 2 for one in probes if one.via == "127.0.0.1"} == {0}
    assert {one.ok for one in probes if one.via == "127.0.0.2"} == {False}


def test_every_request_comes_from_a_source_port_of_its_own(tmp_path: Path) -> None:
    ports: list[int] = []

    def note(connection: socket.socket) -> None:
        ports.append(connection.getpeername()[1])
        connection.sendall(OK)

    with server(note) as port:
        probe(tmp_path, port, requests=50)
    assert len(set(ports)) == len(ports) >= 50
