"""What no well-meaning client sends: each gets the right Status, and the server goes on with bounded memory."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import urllib3

from labctl.kube.resources import CONFIG_MAPS
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.e2e.apiserver import ApiServer
from tests.etcd import Etcd

pytestmark = pytest.mark.etcd
CLOCK = SystemClock()
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder: Path = tmp_path_factory.mktemp("bad-input")
    etcd = Etcd(folder / "etcd")
    etcd.start()
    running = ApiServer(folder, etcd.url)
    try:
        yield running.start()
        assert "Traceback" not in running.log, running.log[-4000:]
    finally:
        running.kill()
        etcd.kill()


def tls(server: ApiServer) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(server.pki.ca_file))
    context.load_cert_chain(*server.pki.issue("admin", "kubernetes-admin", "system:masters"))
    return context


class Http:
    """Requests that our own client would not send."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._pool = urllib3.PoolManager(ssl_context=tls(server))

    def send(
        self, method: str, path: str, body: bytes | str | None = None, *, media: str = JSON, **headers: str
    ) -> tuple[int, Any]:
        """The code and the answer; with an error code it must be a Status that says the same code."""
        given = {"Content-Type": media, **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = self._pool.request(
            method, self._server.url + path, body=body, headers=given, retries=False, timeout=60
        )
        document: Any = msgspec.json.decode(answer.data) if answer.data else None
        if answer.status >= 400 and method != "HEAD":
            assert document["kind"] == "Status", document
            assert document["code"] == answer.status, document
            assert document["reason"], document
        return answer.status, document


@pytest.fixture
def http(server: ApiServer) -> Http:
    return Http(server)


def nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + closing * depth


@pytest.mark.parametrize(
    ("media", "body"),
    [
        (JSON, b""),
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b'"text"'),
        (JSON, b"nothing"),
        (JSON, b'{"metadata":{"name":"\x00"}}'),
        (JSON, b'{"metadata":{"name":1}}'),
        (JSON, b'{"metadata":[]}'),
        (JSON, b'{"data":{"a":1}}'),
        (JSON, b'{"binaryData":{"a":"?"}}'),
        (JSON, b'{"immutable":"yes"}'),
        (JSON, b'{"kind":1}'),
        (JSON, b'{"kind":{}}'),
        (JSON, b'{"apiVersion":[]}'),
        (JSON, b'{"metadata":{"creationTimestamp":"yesterday"}}'),
        (JSON, b'{"metadata":{"generation":1e400}}'),
        (JSON, b'{"metadata":{"generation":99999999999999999999}}'),
        (JSON, nested(100_000, "[", "]").encode()),
        (JSON, b'{"data":' + nested(100_000, '{"a":', "}").encode()),
        (JSON, b'{"x":' + nested(500, "[", "]").encode() + b"}"),
        (YAML, b"a: ["),
        (YAML, b"\x00"),
        (YAML, b"a: !!python/object:os.system x"),
        (YAML, b"a: &a [*a]"),
        (YAML, nested(10_000, "[", "]").encode()),
        (YAML, b"metadata: {name: m}\n---\nmetadata: {name: n}"),
        (PROTOBUF, b""),
        (PROTOBUF, b"{}"),
        (PROTOBUF, b"k8s\x00"),
        (PROTOBUF, b"k8s\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        (PROTOBUF, b"k8s\x00\x0a\x7f"),
        (PROTOBUF, b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x02\x0a\x7f"),
    ],
    ids=lambda value: str(value[:24]),
)
def test_a_body_that_makes_no_sense_is_a_bad_request(http: Http, media: str, body: bytes) -> None:
    assert http.send("POST", MAPS, body, media=media)[0] == 400


def test_a_yaml_bomb_is_refused_before_it_goes_off(http: Http, server: ApiServer) -> None:
    before = server.resident_bytes
    levels = [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    bomb = "\n".join(["a0: &a0 [x,x,x,x,x,x,x,x,x]", *levels])
    code, status = http.send("POST", MAPS, bomb, media=YAML)
    assert (code, "excessive aliasing" in status["message"]) == (400, True)
    assert server.resident_bytes < before + 20 * 1024 * 1024


def test_a_json_patch_that_copies_itself_is_refused(http: Http, server: ApiServer) -> None:
    http.send("POST", MAPS, json.dumps({"metadata": {"name": "bomb"}, "data": {"a": "x" * 1000}}))
    before = server.resident_bytes
    patch = json.dumps([{"op": "copy", "from": "/data", "path": f"/data/{n}"} for n in range(40)])
    code, _ = http.send("PATCH", f"{MAPS}/bomb", patch, media="application/json-patch+json")
    assert code in {400, 413, 422}
    assert server.resident_bytes < before + 60 * 1024 * 1024


def test_a_key_given_twice_is_told_of_or_refused(http: Http) -> None:
    body = '{"metadata":{"name":"twice"},"data":{"a":"1","a":"2"}}'
    code, status = http.send("POST", f"{MAPS}?fieldValidation=Strict", body)
    assert (code, 'strict decoding error: duplicate field "data.a"' in status["message"]) == (400, True)
    code, made = http.send("POST", MAPS, body)
    assert (code, made["data"]) == (201, {"a": "2"})


def test_a_body_over_three_mebibytes_is_too_large(http: Http) -> None:
    body = json.dumps({"metadata": {"name": "huge"}, "data": {"a": "x" * (3 << 20)}})
    code, status = http.send("POST", MAPS, body)
    assert (code, status["reason"]) == (413, "RequestEntityTooLarge")


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(server: ApiServer) -> None:
    head = f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with connection(server) as sock:
        sock.sendall(head)
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            for _ in range(100):
                sock.sendall(chunk)
        except OSError:
            pass  # the server has hung up, as it should
        assert b" 413 " in first_line(sock)


def connection(server: ApiServer) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=90)
    return tls(server).wrap_socket(plain, server_hostname="127.0.0.1")


def first_line(sock: ssl.SSLSocket) -> bytes:
    found = b""
    try:
        while b"\r\n" not in found and (data := sock.recv(4096)):
            found += data
    except OSError:
        pass
    return found.partition(b"\r\n")[0] + b" "


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=abc", 400),
        ("limit=99999999999999999999", 400),
        ("limit=-1", 200),
        ("resourceVersion=abc", 400),
        ("resourceVersion=-1", 400),
        ("resourceVersion=99999999999999999999999", 400),
        ("resourceVersionMatch=Sometimes&resourceVersion=1", 422),
        ("resourceVersionMatch=Exact", 422),
        ("continue=garbage", 400),
        ("continue=%00", 400),
        ("continue=" + base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1","rv":-5,"start":"x"}').decode(), 400),
        ("labelSelector=a in (", 400),
        ("labelSelector=,,", 400),
        ("labelSelector=a==b==c", 400),
        ("labelSelector=-a", 400),
        ("labelSelector=%00", 400),
        ("fieldSelector=spec.secret=1", 400),
        ("fieldSelector=metadata.name", 400),
        ("timeoutSeconds=soon", 400),
        ("watch=1&timeoutSeconds=soon", 400),
        ("watch=1&resourceVersion=abc", 400),
        ("watch=1&sendInitialEvents=true", 422),
        ("watch=1&resourceVersionMatch=NotOlderThan", 422),
        ("unknown=1&%ff=%fe", 200),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_and_an_unknown_one_ignored(http: Http, query: str, code: int) -> None:
    assert http.send("GET", f"{MAPS}?{query.replace(' ', '%20')}")[0] == code


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", f"{MAPS}?dryRun=Some", 422),
        ("POST", f"{MAPS}?fieldValidation=Loose", 422),
        ("DELETE", f"{MAPS}/x?gracePeriodSeconds=soon", 400),
        ("DELETE", f"{MAPS}/x?propagationPolicy=Sideways", 422),
        ("BREW", MAPS, 405),
        ("BREW", f"{MAPS}/x", 405),
        ("OPTIONS", MAPS, 405),
        ("TRACE", MAPS, 405),
        ("PUT", MAPS, 405),
        ("PATCH", MAPS, 405),
        ("POST", f"{MAPS}/x", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("POST", "/version", 405),
        ("GET", "/apis/nothing.example/v1/things", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", f"{PODS}/x/nothing", 404),
        ("GET", "/%00%ff/..%2f..", 404),
        ("GET", f"{MAPS}/%00", 404),
        ("GET", f"{MAPS}/" + "x" * 5000, 404),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_verb_or_path_that_is_not_served_gets_its_status(http: Http, method: str, path: str, code: int) -> None:
    body = '{"metadata":{"name":"x"}}' if method in {"POST", "PUT", "PATCH"} else None
    assert http.send(method, path, body)[0] == code


def test_a_head_is_a_get_without_its_body(http: Http) -> None:
    assert http.send("HEAD", MAPS) == (200, None)
    assert http.send("HEAD", f"{MAPS}/absent") == (404, None)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{PODS}/p/eviction", '{"metadata":[]}'),
        (f"{PODS}/p/eviction", '{"deleteOptions":{"gracePeriodSeconds":"x"}}'),
        (f"{PODS}/p/binding", '{"target":"n1"}'),
        ("/api/v1/namespaces/default/serviceaccounts/default/token", '{"spec":{"expirationSeconds":"long"}}'),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", '{"spec":{"resourceAttributes":[]}}'),
        ("/apis/authorization.k8s.io/v1/subjectaccessreviews", '{"spec":{"user":{}}}'),
        ("/apis/authentication.k8s.io/v1/tokenreviews", '{"spec":"x"}'),
    ],
)
def test_a_subresource_or_review_of_the_wrong_types_is_a_bad_request(http: Http, path: str, body: str) -> None:
    code, status = http.send("POST", path, body)
    assert (code, "cannot be handled as a" in status["message"]) == (400, True)


@pytest.mark.parametrize(
    ("media", "patch", "code"),
    [
        ("application/json-patch+json", "{}", 400),
        ("application/json-patch+json", '[{"op":"brew","path":"/a"}]', 400),
        ("application/json-patch+json", '[{"op":"remove","path":"/nothing/here"}]', 422),
        ("application/json-patch+json", '[{"op":"replace","path":"","value":[]}]', 400),
        ("application/json-patch+json", '[{"op":"add","path":"/data","value":' + nested(150, "[", "]") + "}]", 422),
        ("application/merge-patch+json", "[]", 400),
        ("application/merge-patch+json", '{"data":1}', 422),
        ("application/merge-patch+json", '{"metadata":null}', 400),
        ("application/strategic-merge-patch+json", '{"$patch":"explode"}', 400),
        ("application/strategic-merge-patch+json", '{"metadata":{"finalizers":{}}}', 422),
        ("application/strategic-merge-patch+json", nested(100_000, '{"a":', "}"), 400),
        ("application/apply-patch+yaml", "a: [", 400),
        ("text/plain", "x", 415),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_patch_that_makes_no_sense_is_refused(http: Http, media: str, patch: str, code: int) -> None:
    http.send("POST", MAPS, '{"metadata":{"name":"patched"},"data":{"a":"b"}}')
    query = "?fieldManager=m" if "apply" in media else ""
    assert http.send("PATCH", f"{MAPS}/patched{query}", patch, media=media)[0] == code


@pytest.mark.parametrize(
    ("accept", "code"),
    [("text/html", 406), ("application/json;as=Chair;g=meta.k8s.io;v=v1", 406), ("x" * 3000, 406), (";;;,,", 406),
     ("*/*;q=zero", 200), ("application/json;q=0.1,text/html", 200)],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_a_form_that_is_not_served_is_not_acceptable(http: Http, accept: str, code: int) -> None:
    assert http.send("GET", MAPS, Accept=accept)[0] == code


def test_a_media_type_that_is_not_read_is_unsupported(http: Http) -> None:
    code, status = http.send("POST", MAPS, "x", media="text/plain")
    assert (code, status["reason"]) == (415, "UnsupportedMediaType")
    assert (
        http.send("POST", f"{MAPS}?dryRun=All", '{"metadata":{"name":"c"}}', media="Application/JSON; charset=utf-8")[0]
        == 201
    )


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        (f"GET /{'x' * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + "x" * 20_000 + "\r\n\r\n", b"431"),
        ("GET / HTTP/1.1\r\nHost: x\r\n" + "X-Many: x\r\n" * 5_000 + "\r\n", b"431"),
        ("this is not HTTP\r\n\r\n", b"400"),
        ("GET / HTTP/9.9\r\n\r\n", b"400"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", b"400"),
    ],
    ids=["long line", "long header", "many headers", "no HTTP", "other version", "bad length"],
)
def test_what_is_no_http_of_a_sensible_size_is_refused(server: ApiServer, request_text: str, code: bytes) -> None:
    with connection(server) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(request_text.encode())
        assert code in first_line(sock).split()[1:2], request_text[:40]


def test_a_watch_whose_client_reads_nothing_is_dropped_and_costs_bounded_memory(http: Http, server: ApiServer) -> None:
    client = server.client()
    version = client.list(CONFIG_MAPS).metadata.resource_version
    before = server.resident_bytes
    with connection(server) as sock:
        sock.sendall(f"GET {MAPS}?watch=1&resourceVersion={version} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_for(lambda: _watches(server) == 1, what="the watch", deadline_s=10, clock=CLOCK)
        client.create(CONFIG_MAPS, {"metadata": {"name": "big"}, "data": {"n": "0", "a": "x" * 500_000}}, "default")
        for count in range(60):
            client.patch(CONFIG_MAPS, "big", {"data": {"n": str(count)}}, "default")
        wait_for(lambda: _watches(server) == 0, what="the watch to be dropped", deadline_s=60, clock=CLOCK)
    assert server.resident_bytes < before + 80 * 1024 * 1024


def _watches(server: ApiServer) -> int:
    for line in server.client().request("GET", "/metrics").decode().splitlines():
        if line.startswith("apiserver_longrunning_requests{") and 'verb="WATCH"' in line and "onfig" in line:
            return int(float(line.rpartition(" ")[2]))
    return 0


def test_bodies_that_never_come_time_out_and_hold_nobody_up(http: Http, server: ApiServer) -> None:
    head = f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: 100\r\n\r\n{{".encode()
    waiting = [connection(server) for _ in range(20)]
    try:
        for sock in waiting:
            sock.sendall(head)
        assert http.send("GET", MAPS)[0] == 200
        codes = {first_line(sock).split()[1] for sock in waiting}
        assert codes == {b"504"}
    finally:
        for sock in waiting:
            sock.close()
