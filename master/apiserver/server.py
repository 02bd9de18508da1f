"""The process: gunicorn with one gevent worker under Flask, TLS with optional client certificates.

gunicorn gives what an API server needs beyond WSGI (the peer certificate, raw sockets, graceful stop), gevent thousands
of watches in one process. The store's client, locks and threads all run on gevent once it has patched the library.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

import gevent
from gunicorn.app.base import BaseApplication
from gunicorn.workers.ggevent import GeventWorker

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Backoff, Stop
from master.apiserver import bootstrap, schemas
from master.apiserver.admit import Chain, World
from master.apiserver.allocation import Allocation
from master.apiserver.app import Server, create_app
from master.apiserver.authz.authorizer import Authorizer
from master.apiserver.config import Config
from master.apiserver.context import Context
from master.apiserver.registry import Registry
from master.apiserver.storage import Storage
from master.apiserver.tokens import Tokens
from master.store.etcd import EtcdStore, Tls
from master.store.memory import MemoryStore
from master.store.protocol import Store, StoreError

_log = logging.getLogger(__name__)

_CONNECTIONS = 8192
_KEEPALIVE_S = 180  # longer than clients keep a connection idle (90 s), so that it is never us who closes first
_GRACE_S = 15
_HANG_UP_S = 0.1  # between looks for connections that have become idle
_TIMEOUT_S = 120  # gunicorn kills a worker that is silent for this long

stop = Stop()  # set by the worker's signal handlers; ends the watches


def open_store(config: Config) -> Store:
    """etcd, or for development everything in this process."""
    clock = SystemClock()
    if config.etcd_servers == ("memory://",):
        return MemoryStore(clock)
    tls = Tls(config.etcd_ca_file, config.etcd_cert_file, config.etcd_key_file) if config.etcd_ca_file else None
    return EtcdStore(list(config.etcd_servers), clock=clock, tls=tls)


def make_context(config: Config, store: Store, stop: Stop) -> Context:
    """Everything the handlers use."""
    clock = SystemClock()
    registry = Registry(schemas.load())
    storage = Storage(store, clock, stop)
    authorizer = Authorizer(storage, registry)
    return Context(
        config=config,
        clock=clock,
        stop=stop,
        registry=registry,
        storage=storage,
        admission=Chain(World(storage, registry, config.timing)),
        allocation=Allocation(storage, registry, config, clock),
        authorizer=authorizer,
        tokens=Tokens(config.service_account_key_file, storage, registry, clock),
    )


def prepare(context: Context) -> None:
    """Run the bootstrap until the store lets it finish."""
    backoff = Backoff(base_s=0.2, cap_s=3.0)
    while not context.stop.is_set():
        try:
            bootstrap.run(context)
            return
        except StoreError as error:
            _log.warning("waiting for the store: %s", error)
            context.stop.wait_s(backoff.next_s())


class Worker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker, which on its way out also ends our watches and hangs up idle connections.

    Clients keep connections for minutes; gunicorn alone would wait for them until its graceful timeout.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: set[Any] = set()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """One connection, from its handshake to its end."""
        self._idle.add(client)
        try:
            super().handle(listener, client, addr)
        finally:
            self._idle.discard(client)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """One request on it."""
        self._idle.discard(sock)
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            self._idle.add(sock)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: finish requests, end watches."""
        self._leave()
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT and SIGQUIT: the same."""
        self._leave()
        super().handle_quit(sig, frame)

    def _leave(self) -> None:
        stop.set()
        gevent.spawn(self._hang_up)  # a signal handler must not block

    def _hang_up(self) -> None:
        while True:
            for sock in tuple(self._idle):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            gevent.sleep(_HANG_UP_S)


def tls_context(config: Config) -> ssl.SSLContext:
    """The server's certificate; clients may present one of the lab's CA. HTTP/1.1 only, as WebSockets need."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=config.client_ca_file)
    context.load_cert_chain(config.tls_cert_file, config.tls_key_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


class Application(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured from our own file alone."""

    def __init__(self, config: Config) -> None:
        self._config = config
        schemas.load()  # before the port is bound: nobody waits on it, and the worker shares the memory
        super().__init__()

    def load_config(self) -> None:
        """Settings; see gunicorn's documentation for each."""
        config = self._config

        def make_tls(_config: object, _default: object) -> ssl.SSLContext:
            return tls_context(config)

        settings = {
            "bind": [f"{config.bind_address}:{config.port}"],
            "workers": 1,
            "worker_class": Worker,
            "worker_connections": _CONNECTIONS,
            "keepalive": _KEEPALIVE_S,
            "timeout": _TIMEOUT_S,
            "graceful_timeout": _GRACE_S,
            "certfile": config.tls_cert_file,
            "keyfile": config.tls_key_file,
            "ssl_context": make_tls,
            "limit_request_line": 8190,
            "proc_name": "labctl-apiserver",
            "loglevel": "warning",
            "worker_tmp_dir": "/dev/shm",  # noqa: S108 - gunicorn's heartbeat file, as its documentation advises
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        """In the worker: open the store, create what must exist, then serve."""
        context = make_context(self._config, open_store(self._config), stop)
        prepare(context)
        _log.info("serving", extra={"kv": {"port": self._config.port}})
        return create_app(Server(context))
