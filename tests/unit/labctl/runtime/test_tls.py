"""TLS connections of one thread do not hear of each other's ends."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from labctl.runtime.tls import isolated
from tests.e2e.certs import Pki

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
GONE = "Broken pipe|reset by peer|EOF"


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    """A server's and a client's."""
    pki = Pki(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*pki.issue("server", "server"))
    return isolated(server), isolated(ssl.create_default_context(cafile=str(pki.ca_file)))


def pair(contexts: Contexts) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Both ends of a connection."""
    ours, theirs = socket.socketpair()
    ends: list[ssl.SSLSocket] = []
    shaking = threading.Thread(target=lambda: ends.append(contexts[0].wrap_socket(ours, server_side=True)))
    shaking.start()
    client = contexts[1].wrap_socket(theirs, server_hostname="localhost")
    shaking.join(10)
    return ends[0], client


def test_a_peer_that_is_gone_breaks_no_other_connection(contexts: Contexts) -> None:
    """On Python 3.13 with OpenSSL 3.5 the second connection's read would raise the first one's broken pipe."""
    (broken, gone), (well, peer) = pair(contexts), pair(contexts)
    gone.close()
    with pytest.raises(OSError, match=GONE):
        broken.sendall(b"x" * 1_000_000)
    well.settimeout(0)
    with pytest.raises(ssl.SSLWantReadError):
        well.recv(10)
    peer.send(b"hello")
    well.settimeout(10)
    assert well.recv(10) == b"hello"
    for end in (broken, well, peer):
        end.close()
