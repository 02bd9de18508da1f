"""An API server over the memory store, called without a network: `api.get("/api/v1/pods")`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from master.apiserver.app import Server
from master.apiserver.config import Config

Document = dict[str, Any]

ADMIN = ("kubernetes-admin", "system:masters")


class _Socket:
    """A connection that shows a certificate."""

    def __init__(self, user: str, group: str) -> None:
        subject = [(("commonName", user),)] + ([(("organizationName", group),)] if group else [])
        self._certificate = {"subject": tuple(subject)}

    def getpeercert(self, binary_form: bool = False) -> Any:
        return b"" if binary_form else self._certificate

    def getsockopt(self, *_: int) -> bytes:
        return b"\x01"


@dataclass
class Answer:
    """What came back."""

    code: int
    body: bytes
    headers: dict[str, str]
    warnings: list[str]

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def message(self) -> str:
        return str(self.document.get("message"))


class Api:
    """Calls a server as one identity (the admin; None: nobody)."""

    def __init__(self, server: Server, identity: tuple[str, str] | None = ADMIN) -> None:
        self.server = server
        self._socket = _Socket(*identity) if identity else None
        self._headers: dict[str, str] = {}

    def as_user(self, name: str, group: str = "") -> Api:
        return Api(self.server, (name, group))

    def nobody(self) -> Api:
        return Api(self.server, None)

    def sending(self, headers: dict[str, str]) -> Api:
        """The same identity, with more headers in each request, named as WSGI names them."""
        found = Api(self.server, None)
        found._socket, found._headers = self._socket, {**self._headers, **headers}
        return found

    def call(
        self, method: str, target: str, body: Any = None, *, media: str = "application/json", accept: str = ""
    ) -> Answer:
        path, _, query = target.partition("?")
        data = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": media,
            "HTTP_ACCEPT": accept,
            "gunicorn.socket": self._socket,
            **self._headers,
        }
        reply, warnings = self.server.answer(environ, lambda: data)
        whole = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
        return Answer(reply.code, whole, {"Content-Type": reply.content_type, **reply.headers}, warnings)

    def get(self, target: str, **options: Any) -> Answer:
        return self.call("GET", target, **options)

    def post(self, target: str, body: Any, **options: Any) -> Answer:
        return self.call("POST", target, body, **options)

    def put(self, target: str, body: Any, **options: Any) -> Answer:
        return self.call("PUT", target, body, **options)

    def delete(self, target: str, body: Any = None) -> Answer:
        return self.call("DELETE", target, body)

    def patch(self, target: str, body: Any, kind: str = "merge") -> Answer:
        names = {
            "merge": "application/merge-patch+json",
            "json": "application/json-patch+json",
            "strategic": "application/strategic-merge-patch+json",
            "apply": "application/apply-patch+yaml",
        }
        return self.call("PATCH", target, body, media=names[kind])

    def create(self, target: str, body: Any) -> Document:
        """POST that must succeed; what was stored."""
        answer = self.post(target, body)
        assert answer.code == 201, answer.body
        found: Document = answer.document
        return found


def soon(ask: Callable[[], Answer], code: int) -> Answer:
    """The answer, once what was just granted or taken has reached the authorizer."""

    def asked() -> Answer | None:
        answer = ask()
        return answer if answer.code == code else None

    return wait_for(asked, what=f"an answer {code}", deadline_s=5, clock=SystemClock(), every_s=0.01)


CONFIG = Config(
    advertise_address="192.0.2.1",
    etcd_servers=("memory://",),
    tls_cert_file="",
    tls_key_file="",
    client_ca_file="",
    service_cidr="10.96.0.0/24",
    node_port_range="30000-30003",
    disable_admission_plugins=("ServiceAccount",),  # no controller makes the accounts
)
