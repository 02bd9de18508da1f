"""etcd's calls, typed, over the gateway. It notes the newest revision any answer spoke of."""

from __future__ import annotations

import threading
from typing import TypeVar

import msgspec

from master.store.gateway import EtcdError, Gateway
from master.store.messages import Granted, Header, Range, Ranged, Txn, Txned
from master.store.protocol import Compacted

_OUT_OF_RANGE = 11  # gRPC's code for a revision that is compacted or in the future
_PATIENCE_S = 2.0  # with another caller's request; it may hang on a connection of its own

T = TypeVar("T", Ranged, Txned)


class _Compact(msgspec.Struct):
    revision: int


class _Grant(msgspec.Struct):
    TTL: int


class _Anything(msgspec.Struct):
    header: Header = msgspec.field(default_factory=Header)


_RANGED = msgspec.json.Decoder(Ranged, strict=False)
_TXNED = msgspec.json.Decoder(Txned, strict=False)
_GRANTED = msgspec.json.Decoder(Granted, strict=False)
_encode = msgspec.json.Encoder().encode


class Calls:
    """One etcd cluster's calls. Each raises StoreError (Lost, EtcdError), within the gateway's deadline."""

    def __init__(self, gateway: Gateway, *, patience_s: float = _PATIENCE_S) -> None:
        self._gateway, self._patience_s = gateway, patience_s
        self.newest = 0  # the highest revision heard of, from any member
        self._flight = threading.Lock()  # held by the caller whose `revision` is under way
        self._begun, self._landed, self._answer = 0, 0, 0
        self._counting = threading.Lock()

    def range(self, request: Range, *, deadline_s: float = 0.0) -> Ranged:
        """A linearizable read; raises Compacted."""
        try:
            answer, _ = self._gateway.call("/v3/kv/range", _encode(request), deadline_s=deadline_s)
        except EtcdError as error:
            if error.code == _OUT_OF_RANGE and "compacted" in error.text:
                raise Compacted(f"revision {request.revision} was compacted away", self.newest) from error
            raise
        return self._heard(_RANGED.decode(answer))

    def txn(self, request: Txn) -> tuple[Txned, bool]:
        """Compare and write; the outcome, and whether an earlier try of it may have been the one that took effect."""
        answer, lost = self._gateway.call("/v3/kv/txn", _encode(request))
        return self._heard(_TXNED.decode(answer)), lost

    def grant(self, ttl_s: int) -> int:
        """A new lease's number. A try that got lost leaves a lease behind that ends by itself."""
        answer, _ = self._gateway.call("/v3/lease/grant", _encode(_Grant(ttl_s)))
        return _GRANTED.decode(answer).ID

    def compact(self, revision: int) -> None:
        """Compact; what is compacted already, or in the future, is left alone."""
        try:
            self._gateway.call("/v3/kv/compaction", _encode(_Compact(revision)))
        except EtcdError as error:
            if error.code != _OUT_OF_RANGE:
                raise

    def revision(self, *, deadline_s: float = 0.0) -> int:
        """The newest revision, linearizable. Callers that wait at once share an answer asked for after they came.

        Who has waited for another's request in vain makes one of its own, with a whole deadline: 0 for the gateway's.
        """
        came = self._begun
        next_one = self._flight.acquire(blocking=False) or self._flight.acquire(timeout=self._patience_s)
        try:
            if self._landed <= came:  # the last answer was asked for before this caller came: it may be too old
                self._gateway.yield_now()  # let those come along who are about to ask
                with self._counting:
                    self._begun += 1
                    begun = self._begun
                revision = self.range(Range(b"\x00", count_only=True), deadline_s=deadline_s).header.revision
                with self._counting:
                    if begun > self._landed:
                        self._answer, self._landed = revision, begun
                return revision
            return self._answer
        finally:
            if next_one:
                self._flight.release()

    def _heard(self, answer: T) -> T:
        self.newest = max(self.newest, answer.header.revision)
        return answer
