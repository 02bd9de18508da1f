"""Tables: what `kubectl get` shows. Columns are data with a tiny function each, by kind; others get Name and Age.

Source: `pkg/printers/internalversion/printers.go` (names, order, formats; ages are computed when asked).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from labctl.runtime.clock import Clock, SystemClock
from master.apiserver.columns import AGE, Column, Shown
from master.apiserver.columns_core import COLUMNS as CORE
from master.apiserver.columns_more import COLUMNS as MORE
from master.apiserver.columns_pod import COLUMNS as POD
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind

Document = dict[str, Any]

_COLUMNS: dict[tuple[str, str], tuple[Column, ...]] = CORE | MORE | POD
_NAME = Column("Name", lambda shown: shown.name, form="name")
_GENERIC = (AGE,)
_clock: Clock = SystemClock()  # a cell that shows an age is true for the moment it is made


def columns(kind: Kind) -> tuple[Column, ...]:
    """The kind's columns, the name first."""
    return (_NAME, *_COLUMNS.get((kind.resource.group, kind.resource.plural), _GENERIC))


def table(
    kind: Kind,
    documents: list[Document],
    metadata: Document,
    form: Form,
    *,
    headed: bool = True,
    now: datetime | None = None,
) -> Document:
    """A meta.k8s.io Table of stored objects."""
    chosen = columns(kind)
    moment = now or _clock.now()
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{form.version}",
        "metadata": metadata,
        "columnDefinitions": [column.definition() for column in chosen] if headed else None,
        "rows": [_row(kind, document, chosen, form, moment) for document in documents],
    }


def _row(kind: Kind, document: Document, chosen: tuple[Column, ...], form: Form, now: datetime) -> Document:
    shown = Shown(kind.conversion.from_stored(document) if kind.conversion else document, now)
    row: Document = {"cells": [column.cell(shown) for column in chosen]}
    if form.include == "Object":
        row["object"] = shown.document
    elif form.include == "Metadata":
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"meta.k8s.io/{form.version}",
            "metadata": document["metadata"],
        }
    return row
