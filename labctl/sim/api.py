"""The API server's own handlers over the memory store, called directly: no network, no thread, no system clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from labctl.kube.errors import ApiError, Unavailable, from_status
from labctl.runtime import chance
from labctl.runtime.clock import Clock, FakeClock
from labctl.runtime.loop import Stop
from labctl.sim.hub import EPOCH
from master.apiserver import bootstrap, schemas
from master.apiserver.admit import Chain, World
from master.apiserver.allocation import Allocation
from master.apiserver.app import Server
from master.apiserver.audit import AuditLog
from master.apiserver.authz.authorizer import Authorizer
from master.apiserver.cached import with_resource_version
from master.apiserver.config import Config
from master.apiserver.context import Context
from master.apiserver.metrics import Metrics
from master.apiserver.registry import Kind, Registry
from master.apiserver.startup import Startup
from master.apiserver.storage import Storage
from master.apiserver.tokens import Tokens
from master.apiserver.watchcache import WatchCache
from master.store.memory import MemoryStore
from master.store.protocol import Change, Entry

CONFIG = Config(
    advertise_address="192.0.2.1",
    etcd_servers=("memory://",),
    tls_cert_file="",
    tls_key_file="",
    client_ca_file="",
    service_cidr="10.96.0.0/24",
    node_port_range="30000-30063",
    disable_admission_plugins=("ServiceAccount",),  # tokens need keys, and nothing here reads them
)


class Died(BaseException):
    """The API server's process ends between two writes of one request."""


@dataclass(frozen=True, slots=True)
class Note:
    """One write as watches tell it: `raw` is the object (its last state where it is gone)."""

    key: str
    revision: int
    raw: bytes
    gone: bool
    value: bytes | None  # as stored


class SimStore(MemoryStore):
    """The memory store, with a log of all that was written and a place to die before a write."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, progress_s=0)
        self.log: list[Note] = []
        self.on_write: Callable[[Note], None] = lambda _: None
        self.dies_in: int | None = None  # writes until the API server dies

    def take_over(self, other: MemoryStore) -> None:
        """See `MemoryStore`."""
        super().take_over(other)
        self.base = self._revision

    def create_all(self, values: Mapping[str, bytes]) -> int:
        """One after the other: the log has one note for each revision."""
        for key, value in values.items():
            self.create(key, value)
        return self._revision

    def since(self, revision: int) -> list[Note]:
        """What was written after `revision`."""
        return self.log[max(0, revision - self.base) :]

    def at(self, key: str, revision: int) -> Entry | None:
        """The entry as it stood then."""
        return self._at(key, revision)

    def _write(self, key: str, value: bytes | None) -> None:
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in < 0:
                self.dies_in = None
                raise Died
        before = self._current(key)
        super()._write(key, value)
        told = value if value is not None else before.value if before else b"{}"
        note = Note(key, self._revision, with_resource_version(told, self._revision), value is None, value)
        self.log.append(note)
        self.on_write(note)


class _Cache(WatchCache):
    """A watch cache that is told of each write as it happens."""

    def __init__(self, store: SimStore, prefix: str, clock: Clock) -> None:
        super().__init__(store, prefix, clock=clock)
        self._list_again()

    def take(self, note: Note) -> None:
        """One write."""
        self._commit((Change(note.key, note.revision, note.value, None),), note.revision)

    def wait_current(self, *, deadline_s: float) -> int:
        """It always is."""
        del deadline_s
        self._revision = self._store.revision()
        return self._revision

    def wait_until(self, revision: int, *, deadline_s: float) -> None:
        """See `WatchCache`."""
        del revision
        self.wait_current(deadline_s=deadline_s)


class _Storage(Storage):
    """Storage whose caches have no threads."""

    def __init__(self, store: SimStore, clock: Clock) -> None:
        super().__init__(store, clock, Stop())
        self._mine, self._at = store, clock
        self.by_prefix: dict[str, _Cache] = {}

    def cache(self, kind: Kind) -> WatchCache:
        """See `Storage`."""
        found = self.by_prefix.get(kind.prefix)
        if found is None:
            found = self.by_prefix[kind.prefix] = _Cache(self._mine, kind.prefix, self._at)
        return found

    def take(self, note: Note) -> None:
        """One write."""
        cached = self.by_prefix.get(prefix_of(note.key))
        if cached is not None:
            cached.take(note)


def prefix_of(key: str) -> str:
    """Under which prefix a kind's objects lie."""
    return "/".join(key.split("/", 4)[:4]) + "/"


class _Socket:
    """A connection that shows a certificate."""

    def __init__(self, user: str, group: str) -> None:
        self._certificate = {"subject": ((("commonName", user),), (("organizationName", group),))}

    def getpeercert(self, binary_form: bool = False) -> Any:
        """As ssl.SSLSocket."""
        return b"" if binary_form else self._certificate

    def getsockopt(self, *_: int) -> bytes:
        """The peer is there."""
        return b"\x01"


@cache
def _registry() -> Registry:
    return Registry(schemas.load())


@cache
def _socket(user: str, group: str) -> _Socket:
    return _Socket(user, group)


@cache
def base() -> MemoryStore:
    """What an API server's first start leaves in the store; made once a process."""
    clock = FakeClock(now=EPOCH)
    with chance.seeded("base"):
        api = Api(clock, None)
        bootstrap.run(api.context)
    return api.store


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it travels."""

    method: str
    target: str
    body: bytes | None = None
    media: str = "application/json"
    accept: str = ""
    user: tuple[str, str] = ("kubernetes-admin", "system:masters")

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"


class Api:
    """One API server and its store. `start` begins a process of it anew: nothing but the store is kept."""

    def __init__(self, clock: Clock, begin: MemoryStore | None) -> None:
        self.clock, self.store = clock, SimStore(clock)
        self.store.take_over(begin if begin is not None else MemoryStore(clock))
        self.on_write: Callable[[Note], None] = lambda _: None
        self.up = False
        self.began = 0  # at which revision the last request arrived
        self.start(first=True)

    def start(self, *, first: bool = False) -> None:
        """Begin to serve."""
        clock, registry, metrics = self.clock, _registry(), Metrics(self.clock)
        storage = _Storage(self.store, clock)
        authorizer = Authorizer(storage, registry)
        self.context = Context(
            config=CONFIG,
            clock=clock,
            stop=Stop(),
            registry=registry,
            storage=storage,
            admission=Chain(
                World(storage, registry, CONFIG.timing, authorizer, clock), CONFIG.disable_admission_plugins
            ),
            allocation=Allocation(storage, registry, CONFIG, clock),
            authorizer=authorizer,
            tokens=Tokens("", storage, registry, clock),
            metrics=metrics,
            audit=AuditLog("", clock),
            startup=Startup(),
        )
        self.storage, self.server, self.up = storage, Server(self.context), True
        self.store.on_write = self._wrote
        if not first:
            self.context.allocation.repair()  # of a start, what may change something: it recounts the quotas too

    def perform(self, request: Request) -> bytes | ApiError:
        """Answer one request, at one moment."""
        if not self.up:
            return Unavailable(f"{request.method} {request.target}: the API server does not answer")
        self.began = self.store.revision()
        path, _, query = request.target.partition("?")
        environ = {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": request.media,
            "HTTP_ACCEPT": request.accept,
            "gunicorn.socket": _socket(*request.user),
        }
        try:
            reply, _ = self.server.answer(environ, lambda: request.body or b"")
        except Died:
            self.up = False
            return Unavailable(f"{request.method} {path}: the API server went away")
        whole = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
        if reply.code >= 400:
            return from_status(reply.code, msgspec.json.decode(whole))
        return whole

    def _wrote(self, note: Note) -> None:
        self.storage.take(note)
        self.on_write(note)
