"""The audit log: who did what, one JSON line an answered request, as `audit.k8s.io/v1` Events of level Metadata.

A request only leaves its few facts in a bounded queue; they are written down by a thread of their own, once a second.
The file is bounded too: it is moved aside when it is full, and one old one is kept. Long answers (watches, logs, exec)
are told when they start. Source: apiserver `audit/`, `apis/audit/v1/types.go`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from labctl.kube.errors import Document
from labctl.runtime.clock import Clock, rfc3339_micro
from labctl.runtime.loop import Stop
from master.apiserver.request import Request, User, parse_path

_log = logging.getLogger(__name__)

# What others note in a request's environment.
IMPERSONATOR, WHY_ALLOWED, WHY_FORBIDDEN = "labctl.impersonator", "labctl.allowed", "labctl.forbidden"
_QUEUE = 16_384
_FILE_BYTES = 64 << 20
_FLUSH_S = 1.0
_LAST_FLUSHES_S = 0.1


class _Fact(msgspec.Struct, frozen=True):
    """What a request leaves."""

    request: Request  # without its body
    audit_id: str
    uri: str
    source: str
    agent: str
    code: int
    streams: bool
    impersonator: User | None
    decision: tuple[str, str] | None
    ended: Any
    took_s: float


class AuditLog:
    """See the module. Without a path it does nothing."""

    def __init__(self, path: str, clock: Clock) -> None:
        self._path, self._clock = Path(path) if path else None, clock
        self._queue: deque[_Fact] = deque()
        self._lost = 0
        self._flushing = threading.Lock()

    def start(self, stop: Stop) -> None:
        """Write what comes until the process ends; after `stop` at short notice."""
        if self._path is not None:
            threading.Thread(target=self._run, args=(stop,), name="audit", daemon=True).start()

    def note(
        self, environ: Mapping[str, Any], request: Request | None, code: int, *, streams: bool, took_s: float
    ) -> None:
        """Remember an answered request. What does not fit is counted, and said in the log."""
        if self._path is None:
            return
        if request is None:  # refused before it was known who asks
            path, method = str(environ.get("PATH_INFO", "")), str(environ.get("REQUEST_METHOD", ""))
            request = Request(
                method=method, path=path, query={}, headers={}, user=User(""), target=parse_path(path), environ={}
            )
        if len(self._queue) >= _QUEUE:
            self._lost += 1
            return
        decision = None
        for word, key in (("allow", WHY_ALLOWED), ("forbid", WHY_FORBIDDEN)):
            if (reason := request.environ.get(key)) is not None:
                decision = (word, reason)
        fact = _Fact(
            msgspec.structs.replace(request, body=b"", environ={}),
            str(environ.get("labctl.audit_id", "")),
            str(environ.get("RAW_URI") or request.path),
            str(environ.get("REMOTE_ADDR", "")),
            str(environ.get("HTTP_USER_AGENT", "")),
            code,
            streams,
            environ.get(IMPERSONATOR),
            decision,
            self._clock.now(),
            took_s,
        )
        self._queue.append(fact)

    def flush(self) -> None:
        """Write what is queued."""
        with self._flushing:
            if self._path is None or not self._queue:
                return
            lines = [msgspec.json.encode(_event(self._queue.popleft())) for _ in range(len(self._queue))]
            lost, self._lost = self._lost, 0
            if lost:
                _log.warning("the audit log fell behind", extra={"kv": {"lost": lost}})
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size > _FILE_BYTES:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
                file.write(b"\n".join(lines) + b"\n")

    def _run(self, stop: Stop) -> None:
        while True:
            if stop.wait_s(_FLUSH_S):
                self._clock.sleep_s(_LAST_FLUSHES_S)
            try:
                self.flush()
            except OSError as error:
                _log.error("the audit log cannot be written", extra={"kv": {"error": error}})


def _event(fact: _Fact) -> Document:
    request = fact.request
    status: Document = {"metadata": {}, "code": fact.code}
    if fact.code >= 400:
        status["status"] = "Failure"
    event: Document = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": fact.audit_id,
        "stage": "ResponseStarted" if fact.streams else "ResponseComplete",
        "requestURI": fact.uri,
        "verb": request.verb,
        "user": _user(fact.impersonator or request.user),
    }
    if fact.impersonator is not None:
        event["impersonatedUser"] = _user(request.user)
    event["sourceIPs"] = [fact.source] if fact.source else []
    if fact.agent:
        event["userAgent"] = fact.agent
    if (target := request.target) is not None and target.plural:
        about = {
            "resource": target.plural,
            "namespace": target.namespace,
            "name": target.name,
            "apiGroup": target.group,
            "apiVersion": target.version,
            "subresource": target.subresource,
        }
        event["objectRef"] = {key: value for key, value in about.items() if value}
    received = fact.ended - timedelta(seconds=fact.took_s)
    event |= {
        "responseStatus": status,
        "requestReceivedTimestamp": rfc3339_micro(received),
        "stageTimestamp": rfc3339_micro(fact.ended),
    }
    if fact.decision is not None:
        word, reason = fact.decision
        event["annotations"] = {"authorization.k8s.io/decision": word, "authorization.k8s.io/reason": reason}
    return event


def _user(user: User) -> Document:
    found: Document = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra}
    return {key: value for key, value in found.items() if value}
