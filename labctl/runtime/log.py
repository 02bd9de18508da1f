"""Structured logs: one line an event, `level component message key=value`; the journal adds the time."""

from __future__ import annotations

import logging
import sys


class _Line(logging.Formatter):
    """`I kubelet: started node=worker1`; keys come from `extra={"kv": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {key}={value}" for key, value in getattr(record, "kv", {}).items())
        text = f"{record.levelname[0]} {record.name}: {record.getMessage()}{pairs}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def set_up(verbosity: int = 0) -> None:
    """Log to standard error: warnings of libraries, our own from INFO (DEBUG with `verbosity`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for ours in ("labctl", "master", "agents"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbosity else logging.INFO)
