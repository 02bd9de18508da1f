"""Who asks: the subject of a client certificate, a ServiceAccount's token, or nobody (`system:anonymous`).

As upstream, a good certificate counts before a token; a token or certificate that is no good is refused, not ignored.
The handshake refuses certificates of foreign authorities; one that has expired passes it (see `server.tls_context`), to
be told here. Source: apiserver `authentication/request/{x509,bearertoken,union}`.
"""

from __future__ import annotations

import hashlib
import ssl
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from labctl.kube.errors import Unauthorized
from labctl.runtime.clock import Clock
from master.apiserver.request import ANONYMOUS, User
from master.apiserver.tokens import InvalidToken, Tokens

_AUTHENTICATED = "system:authenticated"


class _Identity(msgspec.Struct, frozen=True):
    """What a connection's certificate says; `user` is None without one. Times in seconds since 1970."""

    user: User | None = None
    begins_s: float = 0.0
    ends_s: float = 0.0


_NOBODY = _Identity()


class Authenticator:
    """Remembers each connection's certificate: it is presented once a connection."""

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens, self._clock = tokens, clock
        self._known: WeakKeyDictionary[Any, _Identity] = WeakKeyDictionary()

    def user(self, sock: Any, authorization: str = "") -> User:
        """The identity behind a request; Unauthorized for one that was claimed and is not good."""
        identity = _NOBODY
        if sock is not None:
            found = self._known.get(sock)
            if found is None:
                found = self._known[sock] = _presented(sock)
            identity = found
        expired = False
        if identity.user is not None:
            if identity.begins_s <= self._clock.now().timestamp() <= identity.ends_s:
                return identity.user
            expired = True
        if token := bearer(authorization):
            try:
                return self._tokens.verify(token)[0]
            except InvalidToken as error:
                raise Unauthorized("Unauthorized") from error
        if expired:
            raise Unauthorized("Unauthorized")
        return ANONYMOUS


def bearer(authorization: str) -> str:
    """The token of an Authorization header; "" where it carries none."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _presented(sock: Any) -> _Identity:
    if not hasattr(sock, "getpeercert"):
        return _NOBODY
    certificate = sock.getpeercert()
    if not certificate:
        return _NOBODY
    found = from_subject(certificate.get("subject", ()))
    if found is ANONYMOUS:
        return _NOBODY
    print_of = hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()
    extra = (("authentication.kubernetes.io/credential-id", (f"X509SHA256={print_of}",)),)
    user = msgspec.structs.replace(found, extra=extra)
    begins, ends = certificate.get("notBefore"), certificate.get("notAfter")
    return _Identity(
        user,
        ssl.cert_time_to_seconds(begins) if begins else 0.0,
        ssl.cert_time_to_seconds(ends) if ends else float("inf"),
    )


def from_subject(subject: tuple[tuple[tuple[str, str], ...], ...]) -> User:
    """CN is the user, each O a group."""
    pairs = [pair for part in subject for pair in part]
    name = next((value for key, value in pairs if key == "commonName"), "")
    groups = [value for key, value in pairs if key == "organizationName"]
    if not name:
        return ANONYMOUS
    return User(name, (*groups, _AUTHENTICATED))
