from __future__ import annotations

import threading

import pytest

from labctl.kube.client import Client
from labctl.kube.election import LeadershipLost
from labctl.kube.errors import Conflict, Expired, NotFound, ServerTimeout, Unavailable
from labctl.kube.kubeconfig import Endpoint
from labctl.kube.resources import PODS
from labctl.runtime.clock import SystemClock
from tests.unit.labctl.kube.conftest import FakeServer, Request

NOBODY = "http://127.0.0.1:9"  # the discard port: refused at once
EVENT = b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"7"}}}\n'


def status(code: int, reason: str) -> dict[str, object]:
    return {"kind": "Status", "code": code, "reason": reason, "message": f"it is {reason}"}


@pytest.mark.parametrize("chunked", [True, False])
def test_a_watch_hands_out_an_event_while_the_next_is_still_on_its_way(server: FakeServer, chunked: bool) -> None:
    seen = threading.Event()

    def handle(request: Request) -> None:
        send = request.stream(chunked=chunked)
        send(EVENT[:11])
        send(EVENT[11:] + EVENT[:5])
        assert seen.wait(5), "the first event was held back until more arrived"
        send(EVENT[5:])
        if chunked:
            send(b"")

    server.handle = handle
    with server.client().watch(PODS, resource_version="1") as events:
        assert next(events).type == "ADDED"
        seen.set()
        assert len(list(events)) == 1


def test_a_watch_cut_in_the_middle_of_a_line_is_unavailable(server: FakeServer) -> None:
    def handle(request: Request) -> None:
        request.stream()(EVENT + EVENT[:9])
        request.hang_up()

    server.handle = handle
    with server.client().watch(PODS, resource_version="1") as events:
        next(events)
        with pytest.raises(Unavailable):
            next(events)


def test_an_error_event_410_is_expired(server: FakeServer) -> None:
    gone = b'{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}\n'
    server.handle = lambda request: request.stream()(gone)
    with server.client().watch(PODS, resource_version="1") as events, pytest.raises(Expired):
        next(events)


def test_an_answer_of_404_is_not_found(server: FakeServer) -> None:
    server.handle = lambda request: request.json(404, status(404, "NotFound"))
    with pytest.raises(NotFound, match="it is NotFound"):
        server.client().get(PODS, "a", "default")


def test_a_server_that_does_not_answer_is_passed_over_and_tried_last_from_then_on(server: FakeServer) -> None:
    server.handle = lambda request: request.json(200, {"kind": "Pod"})
    client = server.client(NOBODY)
    assert client.get(PODS, "a", "default") == {"kind": "Pod"}
    assert client._servers.order == [server.url, NOBODY]


def test_a_write_moves_on_only_where_it_was_never_sent(server: FakeServer) -> None:
    server.handle = lambda request: request.json(201, {"kind": "Pod"})
    assert server.client(NOBODY).create(PODS, {}, "default") == {"kind": "Pod"}


def test_a_write_whose_answer_was_lost_is_not_sent_again(server: FakeServer) -> None:
    server.handle = lambda request: request.hang_up()
    with pytest.raises(Unavailable):
        server.client(server.url.replace("127.0.0.1", "localhost")).create(PODS, {}, "default")
    assert len(server.requests) == 1


def test_a_read_whose_connection_was_cut_is_sent_again_to_the_same_address(server: FakeServer) -> None:
    def handle(request: Request) -> None:
        if len(server.requests) == 1:
            request.hang_up()
        else:
            request.json(200, {"kind": "Pod"})

    server.handle = handle
    client = Client(Endpoint(servers=(server.url, NOBODY)))
    assert client.get(PODS, "a", "default") == {"kind": "Pod"}
    assert client._servers.order == [server.url, NOBODY]  # another machine may have the address by now


def test_an_address_that_disappoints_twice_in_a_row_is_tried_last(server: FakeServer) -> None:
    server.handle = lambda request: request.hang_up()
    client = Client(Endpoint(servers=(server.url, NOBODY)))
    for expected in ([server.url, NOBODY], [NOBODY, server.url]):
        with pytest.raises(Unavailable):
            client.create(PODS, {}, "default")
        assert client._servers.order == expected


def test_a_read_moves_on_from_a_server_that_cannot_serve(server: FakeServer) -> None:
    def handle(request: Request) -> None:
        if request.raw.headers["Host"].startswith("localhost"):
            request.json(503, status(503, "ServiceUnavailable"))
        else:
            request.json(200, {"kind": "Pod"})

    server.handle = handle
    assert server.client(server.url.replace("127.0.0.1", "localhost")).get(PODS, "a") == {"kind": "Pod"}


def test_the_server_is_told_how_long_the_answer_is_worth_having(server: FakeServer) -> None:
    server.handle = lambda request: request.json(200, {"kind": "Pod"})
    client = server.client(timeout_s=5.0)
    client.get(PODS, "a", "default")
    client.patch(PODS, "a", {}, "default", timeout_s=1.5)
    assert server.timeouts == ["4s", "1.2s"]


def test_a_server_out_of_time_is_asked_once_more_before_it_is_tried_last(server: FakeServer) -> None:
    server.handle = lambda request: request.json(504, status(504, "Timeout"))
    client = Client(Endpoint(servers=(server.url, NOBODY)))
    for expected in ([server.url, NOBODY], [NOBODY, server.url]):
        with pytest.raises(ServerTimeout):
            client.create(PODS, {}, "default")
        assert client._servers.order == expected


def test_nobody_at_home_is_unavailable_within_seconds() -> None:
    clock = SystemClock()
    began_s = clock.monotonic_s()
    with pytest.raises(Unavailable, match="does not answer"):
        Client(Endpoint(servers=(NOBODY,))).get(PODS, "a")
    assert clock.monotonic_s() - began_s < 2


def test_a_guarded_client_reads_but_does_not_write_without_the_lead(server: FakeServer) -> None:
    def refuse() -> None:
        raise LeadershipLost("not leading")

    server.handle = lambda request: request.json(200, {"kind": "Pod"})
    client = server.client(guard=refuse)
    client.get(PODS, "a", "default")
    with pytest.raises(LeadershipLost):
        client.delete(PODS, "a", "default")
    assert [method for method, _ in server.requests] == ["GET"]


def test_delete_carries_its_conditions(server: FakeServer) -> None:
    bodies: list[bytes] = []

    def handle(request: Request) -> None:
        bodies.append(request.body)
        request.json(409, status(409, "Conflict"))

    server.handle = handle
    with pytest.raises(Conflict):
        server.client().delete(PODS, "a", "default", uid="u1", grace_s=0)
    assert b'"preconditions":{"uid":"u1"}' in bodies[0]
    assert b'"gracePeriodSeconds":0' in bodies[0]


def test_a_client_is_shared_by_threads(server: FakeServer) -> None:
    server.handle = lambda request: request.json(200, {"name": request.path.rpartition("/")[2]})
    client = server.client(NOBODY)
    wrong: list[str] = []

    def ask(number: int) -> None:
        for turn in range(20):
            name = f"{number}-{turn}"
            if client.get(PODS, name, "default") != {"name": name}:
                wrong.append(name)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
