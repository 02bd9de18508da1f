"""Who asks: the subject of a verified client certificate; nobody (`system:anonymous`) without one."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from master.apiserver.request import ANONYMOUS, User

_AUTHENTICATED = "system:authenticated"


class Authenticator:
    """Remembers each connection's identity: a certificate is presented once a connection."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, User] = WeakKeyDictionary()

    def user(self, sock: Any) -> User:
        """The identity behind a connection."""
        known = self._known.get(sock) if sock is not None else ANONYMOUS
        if known is None:
            known = _of(sock)
            self._known[sock] = known
        return known


def _of(sock: Any) -> User:
    if not hasattr(sock, "getpeercert"):
        return ANONYMOUS
    certificate = sock.getpeercert()
    return from_subject(certificate.get("subject", ())) if certificate else ANONYMOUS


def from_subject(subject: tuple[tuple[tuple[str, str], ...], ...]) -> User:
    """CN is the user, each O a group."""
    pairs = [pair for part in subject for pair in part]
    name = next((value for key, value in pairs if key == "commonName"), "")
    groups = [value for key, value in pairs if key == "organizationName"]
    if not name:
        return ANONYMOUS
    return User(name, (*groups, _AUTHENTICATED))
