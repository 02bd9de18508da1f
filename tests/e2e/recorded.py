"""Writes and watches of an API server, recorded, and held against what etcd itself tells."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from labctl.kube.client import Client
from labctl.kube.errors import ApiError, Expired, NotFound
from labctl.kube.informer import Informer
from labctl.kube.resources import CONFIG_MAPS
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop, wait_for
from tests.contract.store.reading import Reader
from tests.e2e.apiserver import ApiServer

CLOCK = SystemClock()
KEPT = "/registry/core/configmaps/default/m-"
NAMES = 4
Document = dict[str, Any]


@dataclass
class Attempt:
    """One write. `effect` is what it would leave: a token no other write has, or `-` and the token it deleted."""

    effect: str
    outcome: str = "unknown"  # or acknowledged, refused
    revision: int = 0


@dataclass(frozen=True)
class Told:
    """One change, as etcd or a watch tells it."""

    revision: int
    effect: str


def token(document: Document) -> str:
    return str(document["data"]["token"])


class Writer:
    """Creates, updates and deletes objects of its own, and records what came of each."""

    def __init__(self, server: ApiServer, number: int, stop: Stop) -> None:
        self.attempts: list[Attempt] = []
        self.acknowledged = 0
        self._rng, self._number, self._stop = random.Random(number), number, stop
        self._client = server.client(timeout_s=5)
        self._known: dict[str, Document | None] = {}  # as last answered; absent: not known
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            name = f"m-{self._number}-{self._rng.randrange(NAMES)}"
            try:
                if name not in self._known:
                    self._known[name] = self._client.get(CONFIG_MAPS, name, "default")
                self._write(name, self._known[name])
            except NotFound:
                self._known[name] = None
            except ApiError:
                self._known.pop(name, None)
                self._stop.wait_s(0.02)

    def _write(self, name: str, old: Document | None) -> None:
        fresh = f"{self._number}-{len(self.attempts)}"
        dice = self._rng.random()
        if old is None:
            body = {"metadata": {"name": name}, "data": {"token": fresh}}
            self._known[name] = self._try(fresh, lambda: self._client.create(CONFIG_MAPS, body, "default"))
        elif dice < 0.1:
            effect, uid = f"-{token(old)}", old["metadata"]["uid"]
            self._try(effect, lambda: self._client.delete(CONFIG_MAPS, name, "default", uid=uid))
            self._known[name] = None
        else:
            stale = {"resourceVersion": str(int(old["metadata"]["resourceVersion"]) - 1)} if dice < 0.2 else {}
            body = old | {"data": {"token": fresh}, "metadata": old["metadata"] | stale}
            self._known[name] = self._try(fresh, lambda: self._client.update(CONFIG_MAPS, name, body, "default"))

    def _try(self, effect: str, act: Any) -> Document:
        attempt = Attempt(effect)
        self.attempts.append(attempt)
        try:
            answer: Document = act()
        except ApiError as error:
            if error.code < 500:
                attempt.outcome = "refused"
            raise
        if not effect.startswith("-"):
            attempt.revision = int(answer["metadata"]["resourceVersion"])
        attempt.outcome = "acknowledged"
        self.acknowledged += 1
        return answer


class Watch:
    """A raw watch: what it told, resumed from the last revision it saw for as long as the test runs."""

    def __init__(self, client: Client, after: str, stop: Stop) -> None:
        self.told: list[Told] = []
        self.resumed = self.expired = 0
        self._client, self._after, self._stop = client, after, stop
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reached(self, revision: int) -> bool:
        return int(self._after) >= revision

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._client.watch(CONFIG_MAPS, "default", resource_version=self._after, timeout_s=600) as events:
                    for event in events:
                        self._take(event.type, msgspec.json.decode(event.object))
            except Expired:
                self.expired += 1
            except Exception:  # cut off in the middle of a line, refused, not there yet: whatever it is, go on
                self._stop.wait_s(0.02)
            self.resumed += 1

    def _take(self, kind: str, document: Document) -> None:
        metadata = document["metadata"]
        if kind != "BOOKMARK" and metadata["name"].startswith("m-"):
            effect = f"-{token(document)}" if kind == "DELETED" else token(document)
            self.told.append(Told(int(metadata["resourceVersion"]), effect))
        self._after = metadata["resourceVersion"]


def truth(reader: Reader) -> list[Told]:
    """What etcd told."""
    found = []
    for change in reader.changes:
        stands = change.value if change.value is not None else change.previous
        assert stands is not None
        sign = "" if change.value is not None else "-"
        found.append(Told(change.revision, sign + token(msgspec.json.decode(stands))))
    return found


def complaints(attempts: list[Attempt], happened: list[Told]) -> Iterator[str]:
    """Where the recorded history and the truth differ. A delete may have been tried again after an unknown end."""
    revisions = {one.effect: one.revision for one in happened}
    if len(revisions) != len(happened):
        yield "a write took effect twice"
    outcomes: dict[str, set[str]] = {}
    for attempt in attempts:
        outcomes.setdefault(attempt.effect, set()).add(attempt.outcome)
        at = revisions.get(attempt.effect)
        if attempt.outcome == "acknowledged" and (at is None or attempt.revision not in {0, at}):
            yield f"{attempt} was lost, or is at {at}"
    for effect, at in revisions.items():
        if outcomes.get(effect, {"refused"}) == {"refused"}:
            yield f"{effect} happened at {at}, though it was refused or never asked for"


def go_on(writers: list[Writer]) -> None:
    """Wait until every writer has written again."""
    done = [writer.acknowledged for writer in writers]
    wait_for(
        lambda: all(writer.acknowledged > before for writer, before in zip(writers, done, strict=True)),
        what="every writer to go on",
        deadline_s=60,
        clock=CLOCK,
    )


def held(informer: Informer[Any]) -> dict[str, str]:
    """The token under each name, as the informer has it."""
    found = (document for document in informer.snapshot().values() if document["metadata"]["name"].startswith("m-"))
    return {document["metadata"]["name"]: token(document) for document in found}
