"""The API servers of one cluster, and a request to whichever of them works.

Servers are tried in order; one that cannot be reached, or says that it cannot serve, makes way for the next. A request
that may have taken effect is never sent twice.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Mapping

import msgspec
import urllib3

from labctl.kube.corked import CorkedPools
from labctl.kube.errors import ApiError, ServerTimeout, Unavailable, from_status
from labctl.kube.kubeconfig import Endpoint
from labctl.runtime.sockets import keepalive
from labctl.runtime.tls import isolated

# A server that is gone is told by the kernel (TCP_SYNCNT below: one repeated SYN, 3 s); one that is there may be busy:
# a TLS handshake that is given up is work for nothing, and asked for again it keeps a slow server slow.
_HANDSHAKE_S = (3.0, 8.0)  # at least, at most; else as long as the answer may take
# A peer that vanished is noticed after 3 + 3 * 1 s of silence, so no watch hangs on a dead connection.
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1),
    *keepalive(idle_s=3, every_s=1, probes=3),
]


class Servers:
    """See the module. Safe to share between threads."""

    def __init__(self, endpoint: Endpoint, *, pool: int) -> None:
        """`pool`: connections to keep for each."""
        self.order = list(endpoint.servers)  # the next to be asked first
        self._doubted = ""  # the server that was silent, or cut us off, when it was last asked
        self._http = CorkedPools(
            num_pools=max(10, len(self.order)),
            maxsize=pool,
            ssl_context=_context(endpoint),
            socket_options=_SOCKET_OPTIONS,
            retries=False,
        )

    def ask(
        self,
        method: str,
        target: str,
        data: bytes | None,
        headers: Mapping[str, str],
        *,
        read_s: float,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """The answer within `read_s`, with `stream` its body still to be read.

        Raises the ApiError of its Status, Unavailable where no server answers.
        """
        least_s, most_s = _HANDSHAKE_S
        timeout = urllib3.Timeout(connect=min(most_s, max(least_s, read_s)), read=read_s)
        failure: Exception | None = None
        servers = list(self.order)
        for number, server in enumerate(servers):  # it may grow under way
            try:
                pool, prefix = self._http.of(server)
                answer = pool.urlopen(
                    method,
                    prefix + target,
                    body=data,
                    headers=headers,
                    timeout=timeout,
                    redirect=False,
                    preload_content=not stream,
                )
            except urllib3.exceptions.HTTPError as error:
                failure = error
                if _never_sent(error) or self._doubted == server:
                    self._rotate(server)
                self._doubted = server
                if method != "GET" and not _never_sent(error):
                    break  # the request may have taken effect: the caller decides
                if number == 0 and _cut(error):
                    servers.insert(1, server)  # an address that moves is another machine's by now
                continue
            if answer.status < 400:
                self._doubted = ""
                return answer
            failure = _error_of(answer)
            if not isinstance(failure, (Unavailable, ServerTimeout)):
                self._doubted = ""
                raise failure
            if isinstance(failure, Unavailable) or self._doubted == server:
                self._rotate(server)  # it is up and cannot serve, e.g. without etcd: another may
            self._doubted = server if isinstance(failure, ServerTimeout) else ""
            if method != "GET":
                raise failure
        if isinstance(failure, ApiError):
            raise failure
        path = target.partition("?")[0]
        words = str(failure).rpartition(">: ")[2]  # without the connection's address in memory
        raise Unavailable(f"{method} {path}: the API server does not answer: {words}") from failure

    def _rotate(self, server: str) -> None:
        """Try the others first next time. Lists are replaced, never changed, so threads need no lock here."""
        servers = self.order
        if servers[0] == server:
            self.order = [*servers[1:], server]


def _context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """TLS that trusts the cluster's own authority; None where no server speaks TLS."""
    if not any(server.startswith("https:") for server in endpoint.servers):
        return None
    context = ssl.create_default_context(cadata=endpoint.ca_pem or None)
    if endpoint.cert_pem:
        with tempfile.NamedTemporaryFile("w", prefix="labctl-", suffix=".pem") as file:  # TLS reads from files only
            file.write(f"{endpoint.cert_pem}\n{endpoint.key_pem}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return isolated(context)


def _never_sent(error: Exception) -> bool:
    return isinstance(error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))


def _cut(error: Exception) -> bool:
    """Whether a connection that stood was broken, as all are whose peer has died: a new one may work."""
    return isinstance(error, urllib3.exceptions.ProtocolError)


def _error_of(answer: urllib3.BaseHTTPResponse) -> ApiError:
    """The error that an answer with a status of 400 or more stands for."""
    try:
        status = msgspec.json.decode(answer.data)
    except (msgspec.DecodeError, urllib3.exceptions.HTTPError):
        status = {}
    finally:
        answer.release_conn()
    return from_status(answer.status, status if isinstance(status, dict) else {})
