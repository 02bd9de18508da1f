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
from master.apiserver.columns_rare import COLUMNS as RARE
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind

Document = dict[str, Any]

_COLUMNS: dict[tuple[str, str], tuple[Column, ...]] = CORE | MORE | POD | RARE
_NAME = Column("Name", lambda shown: shown.name, form="name")
_GENERIC = (AGE,)


def _class_name(annotation: str) -> Column:
    """The name of a class, and whether it is the default one."""

    def cell(shown: Shown) -> str:
        marked = (shown.metadata.get("annotations") or {}).get(annotation) == "true"
        return f"{shown.name} (default)" if marked else shown.name

    return Column("Name", cell, form="name")


_CLASS_NAMES = {
    ("networking.k8s.io", "ingressclasses"): _class_name("ingressclass.kubernetes.io/is-default-class"),
    ("storage.k8s.io", "storageclasses"): _class_name("storageclass.kubernetes.io/is-default-class"),
}
_clock: Clock = SystemClock()  # a cell that shows an age is true for the moment it is made


def columns(kind: Kind) -> tuple[Column, ...]:
    """The kind's columns, the name first; Events have none there."""
    key = (kind.resource.group, kind.resource.plural)
    own = _COLUMNS.get(key, _GENERIC)
    return own if key[1] == "events" else (_CLASS_NAMES.get(key, _NAME), *own)


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
