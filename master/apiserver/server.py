"""The process: gunicorn with one gevent worker under Flask, TLS with optional client certificates.

gunicorn gives what an API server needs beyond WSGI (the peer certificate, raw sockets, graceful stop), gevent thousands
of watches in one process. The store's client, locks and threads all run on gevent once it has patched the library.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.app.base import BaseApplication
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import GeventWorker

from labctl.kube.errors import ApiError
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Backoff, Stop
from labctl.runtime.tls import isolated
from master.apiserver import bootstrap, compaction, schemas
from master.apiserver.admit import Chain, World
from master.apiserver.allocation import Allocation
from master.apiserver.app import Server, create_app
from master.apiserver.audit import AuditLog
from master.apiserver.authz.authorizer import Authorizer
from master.apiserver.config import Config
from master.apiserver.connection import STREAMS, Corked
from master.apiserver.context import Context
from master.apiserver.metrics import Metrics
from master.apiserver.refusals import refuse
from master.apiserver.registry import Registry
from master.apiserver.startup import Startup
from master.apiserver.storage import Storage
from master.apiserver.tokens import Tokens
from master.store.etcd import EtcdStore, Tls
from master.store.measured import MeasuredStore
from master.store.memory import MemoryStore
from master.store.protocol import Store, StoreError

_log = logging.getLogger(__name__)

_CONNECTIONS = 8192
_KEEPALIVE_S = 180  # longer than clients keep a connection idle (90 s), so that it is never us who closes first
_GRACE_S = 15
_HANG_UP_S = 0.05  # between looks for connections that have become idle
_HEARTBEAT_S = 1.0  # to gunicorn's master process
_TIMEOUT_S = 120  # gunicorn kills a worker that is silent for this long

_CLOCK = SystemClock()
_NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME
stop = Stop()  # set by the worker's signal handlers; ends the watches


def open_store(config: Config) -> Store:
    """etcd, or for development everything in this process."""
    clock = SystemClock()
    if config.etcd_servers == ("memory://",):
        return MemoryStore(clock)
    tls = Tls(config.etcd_ca_file, config.etcd_cert_file, config.etcd_key_file) if config.etcd_ca_file else None
    return EtcdStore(list(config.etcd_servers), clock=clock, tls=tls, attempt_s=config.etcd_attempt_s)


def make_context(config: Config, store: Store, stop: Stop, *, following: Stop | None = None) -> Context:
    """Everything the handlers use. The watch caches follow the store until `following` (else `stop`) is set."""
    clock = SystemClock()
    registry = Registry(schemas.load())
    metrics = Metrics(clock)
    storage = Storage(MeasuredStore(store, clock, metrics.etcd), clock, following or stop)
    authorizer = Authorizer(storage, registry)
    return Context(
        config=config,
        clock=clock,
        stop=stop,
        registry=registry,
        storage=storage,
        admission=Chain(World(storage, registry, config.timing, authorizer, clock), config.disable_admission_plugins),
        allocation=Allocation(storage, registry, config, clock),
        authorizer=authorizer,
        tokens=Tokens(config.service_account_key_file, storage, registry, clock),
        metrics=metrics,
        audit=AuditLog(config.audit_log_file, clock),
        startup=Startup(),
    )


def prepare(context: Context) -> None:
    """Run the bootstrap until the store lets it finish; until then requests for resources are turned away.

    Then see that the store does not grow for ever.
    """
    backoff = Backoff(base_s=0.1, cap_s=2.0)
    while not context.stop.is_set():
        try:
            bootstrap.run(context)
        except (StoreError, ApiError) as error:
            _log.warning("the bootstrap is not finished; trying again", extra={"kv": {"error": error}})
        except Exception:
            _log.exception("the bootstrap failed; trying again")
        else:
            context.startup.finish()
            _log.info("serving", extra={"kv": {"port": context.config.port}})
            gevent.spawn(bootstrap.keep_endpoints, context)
            compaction.run(context.storage.store, context.stop)
            return
        context.stop.wait_s(backoff.next_s())


class Worker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker, with an end of its own: requests are finished, watches ended, idle connections hung up.

    gunicorn alone would wait, a second at a time, for clients that keep connections for minutes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open: set[Any] = set()  # every connection
        self._idle: set[Any] = set()  # those without a request
        self._leaving = Event()

    def run(self) -> None:
        """Serve until told to stop, then leave."""
        self.cfg.__dict__.update(
            {name: setting.get() for name, setting in self.cfg.settings.items()}
        )  # read per request
        context = ssl_context(self.cfg)
        pool = Pool(self.worker_connections)
        servers = []
        for listener in self.sockets:
            listener.setblocking(1)
            handle = partial(self.handle, listener)
            servers.append(StreamServer(listener, handle=handle, spawn=pool, ssl_context=context))
            servers[-1].start()
        while self.alive:
            self.notify()
            self._leaving.wait(_HEARTBEAT_S)
        for server in servers:
            server.close()  # no new connections
        self.app.end_watches()
        self._finish()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """One connection, from its handshake to its end."""
        sock = Corked(client)
        self._open.add(sock)
        self._idle.add(sock)
        try:
            super().handle(listener, sock, addr)
        finally:
            self._open.discard(sock)
            self._idle.discard(sock)
            STREAMS.discard(sock)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """One request on it."""
        self._idle.discard(sock)
        STREAMS.discard(sock)
        sock.begin()
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError as error:
            raise BrokenPipeError(errno.EPIPE, "the client takes nothing of its answer") from error
        finally:
            sock.settimeout(None)  # between requests the keepalive counts
            self._idle.add(sock)
            sock.flush()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """What is no request gets a Status as well."""
        if not refuse(client, exc):
            super().handle_error(req, client, addr, exc)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: finish requests, end watches."""
        super().handle_exit(sig, frame)
        self._leave()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT and SIGQUIT: the same."""
        del sig, frame
        self.alive = False
        self._leave()

    def _leave(self) -> None:
        stop.set()  # /readyz fails from now on
        Corked.leaving = True
        self._leaving.set()

    def _finish(self) -> None:
        """Hang up each connection once it is idle; streams other than watches at once. Wait for the rest, a while."""
        end_s = _CLOCK.monotonic_s() + _GRACE_S
        while self._open - self._idle - STREAMS and _CLOCK.monotonic_s() < end_s:
            self.notify()
            _hang_up(self._idle)
            gevent.sleep(_HANG_UP_S)
        if busy := self._open - self._idle - STREAMS:
            _log.warning("requests were not finished in time", extra={"kv": {"requests": len(busy)}})
        _hang_up(self._open)
        gevent.sleep(_HANG_UP_S)


def _hang_up(connections: set[Any]) -> None:
    for sock in tuple(connections):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def tls_context(config: Config) -> ssl.SSLContext:
    """The server's certificate; clients may present one of the lab's CA. HTTP/1.1 only, as WebSockets need."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=config.client_ca_file)
    context.load_cert_chain(config.tls_cert_file, config.tls_key_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    # One that has expired is refused with 401, by `authn`: a broken handshake would not tell its owner why.
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    context.set_alpn_protocols(["http/1.1"])
    return isolated(context)


class Application(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured from our own file alone."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.end_watches: Callable[[], None] = lambda: None  # once the worker has loaded
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
        """In the worker: serve, and meanwhile create what must exist."""
        context = make_context(self._config, open_store(self._config), stop, following=Stop())
        context.startup.begin()
        context.audit.start(stop)
        self.end_watches = context.storage.end_watches
        gevent.spawn(prepare, context)
        return create_app(Server(context))
