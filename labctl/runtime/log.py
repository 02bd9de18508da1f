"""Structured logs: one line an event, as text (`level component message key=value`; the journal adds the time) or JSON.

JSON lines have the keys of upstream's `--logging-format=json`: component-base `logs/json/json.go`.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any


class _Line(logging.Formatter):
    """`I kubelet: started node=worker1`; keys come from `extra={"kv": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {key}={value}" for key, value in getattr(record, "kv", {}).items())
        text = f"{record.levelname[0]} {record.name}: {record.getMessage()}{pairs}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _Json(logging.Formatter):
    """`{"ts":1767225600000.0,"logger":"master.apiserver","v":0,"msg":"serving","port":6443}`; `ts` in milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {"ts": round(record.created * 1000, 3), "logger": record.name}
        if record.levelno >= logging.ERROR:
            said["level"] = "error"
        else:
            said["v"] = 4 if record.levelno <= logging.DEBUG else 0
            if record.levelno >= logging.WARNING:
                said["level"] = "warning"
        said["msg"] = record.getMessage()
        said |= {key: value for key, value in getattr(record, "kv", {}).items() if key not in said}
        if record.exc_info:
            said["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str, separators=(",", ":"))


def set_up(verbosity: int = 0, form: str = "text") -> None:
    """Log to standard error as `text` or `json`: warnings of libraries, our own from INFO (DEBUG with `verbosity`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Line())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for ours in ("labctl", "master", "agents"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbosity else logging.INFO)
