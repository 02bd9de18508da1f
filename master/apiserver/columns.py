"""The parts that columns are made of: definitions, the object being shown, ages and joins in kubectl's style."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labctl.runtime.clock import parse_time

Document = dict[str, Any]


class Shown:
    """The object a row shows, at a moment."""

    __slots__ = ("document", "now")

    def __init__(self, document: Document, now: datetime) -> None:
        self.document, self.now = document, now

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self.document["metadata"].get("name", ""))

    @property
    def metadata(self) -> Document:
        """The metadata."""
        found: Document = self.document["metadata"]
        return found

    @property
    def spec(self) -> Document:
        """The spec, {} where there is none."""
        return self.document.get("spec") or {}

    @property
    def status(self) -> Document:
        """The status, {} where there is none."""
        return self.document.get("status") or {}

    def at(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path."""
        node: Any = self.document
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return default if node is None else node

    def since(self, stamp: str | None) -> str:
        """How long ago, as kubectl writes it; `<unknown>` where there is no stamp."""
        if not stamp:
            return "<unknown>"
        try:
            return duration((self.now - parse_time(stamp)).total_seconds())
        except ValueError:
            return "<invalid>"

    @property
    def age(self) -> str:
        """Since its creation."""
        return self.since(self.metadata.get("creationTimestamp"))


Value = Callable[[Shown], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `priority` above 0 shows with `-o wide` only."""

    name: str
    cell: Value
    priority: int = 0
    kind: str = "string"
    form: str = ""
    description: str = ""

    def definition(self) -> Document:
        """The TableColumnDefinition."""
        return {
            "name": self.name,
            "type": self.kind,
            "format": self.form,
            "description": self.description or self.name,
            "priority": self.priority,
        }


AGE = Column("Age", lambda shown: shown.age)


def wide(name: str, cell: Value) -> Column:
    """A column of `-o wide`."""
    return Column(name, cell, priority=1)


def number(name: str, cell: Value) -> Column:
    """An integer column."""
    return Column(name, cell, kind="integer")


def boolean(name: str, cell: Value) -> Column:
    """A column of true and false."""
    return Column(name, cell, kind="boolean")


def duration(seconds: float) -> str:
    """`5s`, `3m12s`, `4h5m`, `2d3h`, `3y20d`. Source: apimachinery `util/duration` (HumanDuration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    years = days // 365
    rest = days % 365
    return f"{years}y{rest}d" if years < 8 and rest else f"{years}y"


def joined(values: Iterable[Any], empty: str = "<none>") -> str:
    """Comma-separated."""
    return ",".join(str(value) for value in values) or empty


def labels(found: Document | None) -> str:
    """`a=b,c=d`, by key."""
    return joined(f"{key}={value}" for key, value in sorted((found or {}).items()))


def selector(found: Document | None) -> str:
    """A LabelSelector in its text form."""
    if not found:
        return "<none>"
    terms = [f"{key}={value}" for key, value in sorted((found.get("matchLabels") or {}).items())]
    for entry in found.get("matchExpressions") or ():
        operator, key, values = entry.get("operator"), entry.get("key"), ",".join(sorted(entry.get("values") or ()))
        forms = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": f"{key}",
            "DoesNotExist": f"!{key}",
        }
        terms.append(forms.get(str(operator), str(key)))
    return ",".join(terms) or "<none>"


def container_names(shown: Shown, path: str = "spec.template.spec.containers") -> str:
    """The template's containers."""
    return joined(entry.get("name", "") for entry in shown.at(path, ()))


def container_images(shown: Shown, path: str = "spec.template.spec.containers") -> str:
    """The template's images."""
    return joined(entry.get("image", "") for entry in shown.at(path, ()))


CONTAINERS = wide("Containers", container_names)
IMAGES = wide("Images", container_images)
SELECTOR = wide("Selector", lambda shown: selector(shown.spec.get("selector")))
