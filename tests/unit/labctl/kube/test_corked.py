from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.corked import CorkedPools


class Wire:
    """A socket that notes what is sent at once; from then on it breaks where `breaks` says so."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.sent: list[bytes] = []
        self._breaks = breaks

    def settimeout(self, seconds: float) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        if self._breaks:
            raise BrokenPipeError
        self.sent.append(data)


def connection(server: str, wire: Wire) -> Any:
    pool, _ = CorkedPools().of(server)
    made: Any = pool._new_conn()
    made.sock = wire
    return made


@pytest.mark.parametrize("server", ["http://192.0.2.1:80", "https://192.0.2.1:6443"])
def test_head_and_body_go_out_as_one(server: str) -> None:
    wire = Wire()
    connection(server, wire).request("POST", "/api", body=b"body", headers={"Content-Type": "text/plain"})
    (sent,) = wire.sent
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 4" in head
    assert body == b"body"


def test_a_connection_serves_the_next_request_too() -> None:
    wire = Wire()
    reused = connection("http://192.0.2.1:80", wire)
    for _ in range(2):
        reused.request("GET", "/api")
        reused._HTTPConnection__state = "Idle"  # as after an answer
    assert [sent[:4] for sent in wire.sent] == [b"GET ", b"GET "]


def test_what_could_not_be_sent_is_not_sent_with_the_next_request() -> None:
    broken = connection("http://192.0.2.1:80", Wire(breaks=True))
    with pytest.raises(BrokenPipeError):
        broken.request("POST", "/lost", body=b"lost")
    broken._HTTPConnection__state = "Idle"
    broken.sock = whole = Wire()
    broken.request("GET", "/next")
    assert [sent[:9] for sent in whole.sent] == [b"GET /next"]


def test_a_server_behind_a_path_keeps_its_prefix() -> None:
    pools = CorkedPools()
    pool, prefix = pools.of("https://192.0.2.1:6443/clusters/one/")
    assert (pool.host, pool.port, prefix) == ("192.0.2.1", 6443, "/clusters/one")
    assert pools.of("https://192.0.2.1:6443/clusters/one/")[0] is pool
