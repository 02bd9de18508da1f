"""etcd's messages as its JSON gateway writes them: bytes in base64, 64-bit numbers as strings, zeros left out.

Source: etcd `api/etcdserverpb/rpc.proto`; only the fields used here.
"""

from __future__ import annotations

import msgspec

from master.store.protocol import Entry


class Header(msgspec.Struct):
    """Which revision an answer saw."""

    revision: int = 0


class KeyValue(msgspec.Struct):
    """A key as etcd has it."""

    key: bytes = b""
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0

    def entry(self) -> Entry:
        """The same in the store's terms."""
        return Entry(self.key.decode(), self.value, self.mod_revision, self.create_revision)


class Range(msgspec.Struct, omit_defaults=True):
    """RangeRequest."""

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    revision: int = 0
    count_only: bool = False


class Ranged(msgspec.Struct):
    """RangeResponse; `count` counts the whole range."""

    header: Header = msgspec.field(default_factory=Header)
    kvs: list[KeyValue] = []
    count: int = 0


class Put(msgspec.Struct, omit_defaults=True):
    """PutRequest."""

    key: bytes
    value: bytes
    lease: int = 0


class DeleteRange(msgspec.Struct):
    """DeleteRangeRequest for one key."""

    key: bytes


class Compare(msgspec.Struct):
    """The key must have been written last at `mod_revision`; 0: must not exist."""

    key: bytes
    mod_revision: int
    target: str = "MOD"
    result: str = "EQUAL"


class Operation(msgspec.Struct, omit_defaults=True):
    """RequestOp: one of the three."""

    request_put: Put | None = None
    request_delete_range: DeleteRange | None = None
    request_range: Range | None = None


class Txn(msgspec.Struct):
    """TxnRequest."""

    compare: tuple[Compare, ...]
    success: tuple[Operation, ...]
    failure: tuple[Operation, ...]


class Outcome(msgspec.Struct):
    """ResponseOp, where it is a range."""

    response_range: Ranged | None = None


class Txned(msgspec.Struct):
    """TxnResponse."""

    header: Header = msgspec.field(default_factory=Header)
    succeeded: bool = False
    responses: list[Outcome] = []

    def current(self) -> Entry | None:
        """What the range on failure found."""
        kvs = [kv for outcome in self.responses if outcome.response_range for kv in outcome.response_range.kvs]
        return kvs[0].entry() if kvs else None


class Granted(msgspec.Struct):
    """LeaseGrantResponse."""

    ID: int = 0


class WatchCreate(msgspec.Struct):
    """WatchCreateRequest."""

    key: bytes
    range_end: bytes
    start_revision: int
    prev_kv: bool = True
    fragment: bool = True


class WatchRequest(msgspec.Struct):
    """WatchRequest."""

    create_request: WatchCreate


class Event(msgspec.Struct):
    """mvccpb.Event; a put leaves `type` out."""

    kv: KeyValue
    type: str = "PUT"
    prev_kv: KeyValue | None = None


class WatchResponse(msgspec.Struct):
    """WatchResponse; with `fragment`, the rest of its events follows in the next ones."""

    header: Header = msgspec.field(default_factory=Header)
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    fragment: bool = False
    events: list[Event] = []


class StreamError(msgspec.Struct):
    """What ends a stream."""

    message: str = ""


class Watched(msgspec.Struct):
    """One line of the watch's stream."""

    result: WatchResponse | None = None
    error: StreamError | None = None


class Status(msgspec.Struct):
    """StatusResponse: a member of its own."""

    leader: int = 0
    errors: list[str] = []
