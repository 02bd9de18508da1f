"""What is asked of kubelets and pods, and what is refused before anything is asked."""

from __future__ import annotations

import http.client

import pytest

from labctl.kube.errors import ApiError
from master.apiserver import kubelet, proxy, streams
from master.apiserver.joined import Place
from master.apiserver.request import ANONYMOUS, Request, parse_path

PODS = "/api/v1/namespaces/default/pods"


def request(path: str) -> Request:
    return Request(method="GET", path=path, query={}, headers={}, user=ANONYMOUS, target=parse_path(path))


def test_options_go_to_the_kubelet_under_its_own_names() -> None:
    given = "command=sh&command=-c&command=a%20b&stdin=true&stdout=true&stderr=false&tty=1&container=main"
    assert streams._query("exec", {"QUERY_STRING": given}) == "input=1&output=1&tty=1&command=sh&command=-c&command=a+b"
    assert streams._query("attach", {"QUERY_STRING": given}) == "input=1&output=1&tty=1"
    assert streams._query("portforward", {"QUERY_STRING": "ports=80&ports=81"}) == "port=80&port=81"


def pod(*names: str, **more: object) -> dict[str, object]:
    return {"metadata": {"name": "web"}, "spec": {"containers": [{"name": name} for name in names], **more}}


def test_a_container_is_the_one_named_or_the_only_one() -> None:
    assert kubelet.container_of(pod("a", "b"), "b") == "b"
    assert kubelet.container_of(pod("a", initContainers=[{"name": "i"}]), "") == "a"
    assert kubelet.container_of(pod("a", initContainers=[{"name": "i"}]), "i") == "i"
    with pytest.raises(ApiError, match=r"a container name must be specified for pod web, choose one of: \[i a b\]"):
        kubelet.container_of(pod("a", "b", initContainers=[{"name": "i"}]), "")
    with pytest.raises(ApiError, match="container c is not valid for pod web"):
        kubelet.container_of(pod("a", "b"), "c")


def test_a_refusal_is_read_from_a_status_or_from_text() -> None:
    assert kubelet.said(b'{"kind":"Status","message":"no"}') == "no"
    assert kubelet.said(b"plain\n") == "plain"
    assert kubelet.said(b'{"other":1}') == '{"other":1}'


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("web", ("", "web", "")),
        ("web:80", ("", "web", "80")),
        ("https:web:443", ("https", "web", "443")),
        ("http:web:", ("http", "web", "")),
    ],
)
def test_what_is_proxied_to_is_a_name_with_scheme_and_port(name: str, parts: tuple[str, str, str]) -> None:
    assert proxy.split(name, request(f"{PODS}/{name}/proxy")) == parts


@pytest.mark.parametrize("name", ["ftp:web:80", "a:b:c:d", ":80"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ApiError, match="invalid pod request"):
        proxy.split(name, request(f"{PODS}/{name}/proxy"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError("timed out"), "dial tcp 10.0.0.1:80: i/o timeout"),
        (ConnectionRefusedError(111, "Connection refused"), "dial tcp 10.0.0.1:80: connect: connection refused"),
        (OSError(113, "No route to host"), "dial tcp 10.0.0.1:80: connect: no route to host"),
        (http.client.RemoteDisconnected("Remote end closed connection"), "EOF"),
    ],
)
def test_why_a_pod_is_not_reached_is_told_as_go_does(error: Exception, told: str) -> None:
    assert proxy._why(error, Place("10.0.0.1", 80)) == told


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "224.0.0.1", "0.0.0.0", "", "name"])
def test_no_address_of_our_own_is_proxied_to(address: str) -> None:
    with pytest.raises(ApiError, match="address not allowed"):
        proxy._proxyable(address)
