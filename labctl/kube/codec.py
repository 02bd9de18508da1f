"""Reading bodies: JSON and YAML into documents, and documents checked against their schema.

The check prunes nulls, as Kubernetes does, finds fields that the schema does not know, and refuses values of the
wrong type. Unknown fields stay in the document: the caller decides what becomes of them.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from labctl.kube.quantity import canonical
from labctl.kube.schema import Shape
from labctl.runtime.errors import LabError

Document = dict[str, Any]

MAX_DEPTH = 200  # of a body's nesting; whoever walks a document may recurse
_MAX_SHAPE_DEPTH = 100
_GO_TYPES = {
    "string": "string", "integer": "int32", "number": "float64", "boolean": "bool", "quantity": "resource.Quantity",
    "intstr": "intstr.IntOrString", "time": "v1.Time", "bytes": "[]uint8",
}  # fmt: skip
_LIMITS = {"int32": 1 << 31, "int64": 1 << 63}
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")

Path = tuple[Any, str | int] | None  # the place of a value: the place around it and the last step


class DecodeError(LabError):
    """The body cannot be read as what it should be."""


class _WrongType(DecodeError):
    """A value of the wrong JSON type; the struct that has the field is named on the way out."""

    def __init__(self, value: Any, path: Path, go: str) -> None:
        shown = f"number {value}" if go in _LIMITS and _json_type(value) == "number" else _json_type(value)
        self.told = f"json: cannot unmarshal {shown} into Go"
        self.field, self.go, self.struct = _field(path), go, ""
        super().__init__(f"{self.told} value of type {go}")

    def inside(self, struct: str) -> None:
        """The innermost struct around the value, e.g. PodSpec."""
        if not self.struct and self.field:
            self.struct = struct
            self.args = (f"{self.told} struct field {struct}.{self.field} of type {self.go}",)


def decode_json(body: bytes) -> Any:
    """Parse JSON; DecodeError. As in Go, what is not UTF-8 becomes U+FFFD."""
    try:
        found = msgspec.json.decode(body)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        # Which of the first two tells of bytes that are not UTF-8 depends on msgspec's version (0.23 changed it).
        mended = body.decode(errors="replace").encode()
        if mended != body:
            return decode_json(mended)
        raise DecodeError(f"json parse error: {error}") from error
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _deeper(found, MAX_DEPTH):
        raise DecodeError("json parse error: exceeded max depth")
    return found


def _deeper(document: Any, limit: int) -> bool:
    """Whether lists and objects are nested more than `limit` deep."""
    level = [document]
    for _ in range(limit):
        inner = (value for node in level for value in (node.values() if isinstance(node, dict) else node))
        level = [value for value in inner if isinstance(value, (dict, list))]
        if not level:
            return False
    return True


def decode_yaml(body: bytes) -> Any:
    """Parse one YAML document: aliases within bounds, no tags; DecodeError."""
    from labctl.kube.yaml_body import decode  # noqa: PLC0415 - rarely sent, slow to import

    return decode(body)


def clean(document: Document, shape: Shape | None, known: Document | None = None) -> list[str]:
    """Prune nulls in place, check types; the paths of unknown fields. DecodeError names the field.

    `known` is a document that was checked before: the very values that `document` shares with it, as a patch leaves
    them, are not looked at again.
    """
    unknown: list[Path] = []
    if shape is not None and known is not None:
        _changed(document, known, shape, None, unknown)
    elif shape is not None:
        _object(document, shape, None, unknown, 0)
    return [_shown(path) for path in unknown]


def _changed(node: Document, known: Document, shape: Shape, path: Path, unknown: list[Path]) -> None:
    """`_object` for what `node` does not share with `known`."""
    properties = shape.properties
    rest: Document = {}
    try:
        for key, value in node.items():
            before = known.get(key)
            if value is before and value is not None:
                continue
            field = properties.get(key)
            if field is None or type(value) is not type(before) or field.kind not in {"object", "array"}:
                rest[key] = value
            elif isinstance(value, dict) and field.kind == "object":
                _changed(value, known[key], field, (path, key), unknown)
            elif isinstance(value, list) and field.items is not None and field.items.kind == "object":
                _changed_items(value, known[key], field.items, (path, key), unknown)
            else:
                rest[key] = value
    except _WrongType as error:
        error.inside(shape.target.name.rpartition(".")[2])
        raise
    given = list(rest)
    _object(rest, shape, path, unknown, 0)
    for key in given:
        if key in rest:
            node[key] = rest[key]
        else:
            del node[key]


def _changed_items(items: list[Any], known: list[Any], shape: Shape, path: Path, unknown: list[Path]) -> None:
    shared = {id(entry) for entry in known}
    for at, entry in enumerate(items):
        if id(entry) in shared:
            continue
        before = known[at] if at < len(known) else None
        if isinstance(entry, dict) and isinstance(before, dict):
            _changed(entry, before, shape, (path, at), unknown)
        else:
            _value(entry, shape, (path, at), unknown, 0)


def _shown(path: Path) -> str:
    """As `spec.containers[0].image`."""
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return "".join(reversed(steps)).lstrip(".")


def _field(path: Path) -> str:
    """As Go names it in errors: without the places in lists."""
    return re.sub(r"\[\d+\]", "", _shown(path))


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "null"


def _object(node: Any, shape: Shape, path: Path, unknown: list[Path], depth: int) -> None:
    if not isinstance(node, dict):
        raise _WrongType(node, path, _go_type(shape))
    if depth > _MAX_SHAPE_DEPTH:
        raise DecodeError("the object is nested too deeply")
    properties = shape.properties
    for key in [key for key, value in node.items() if value is None]:
        del node[key]
    try:
        for key, value in node.items():
            field = properties.get(key)
            if field is None:
                unknown.append((path, key))
                continue
            checked = _value(value, field, (path, key), unknown, depth)
            if checked is not value:
                node[key] = checked
    except _WrongType as error:
        error.inside(shape.target.name.rpartition(".")[2])
        raise


def _value(value: Any, field: Shape, path: Path, unknown: list[Path], depth: int) -> Any:
    kind = field.kind
    if kind == "object":
        _object(value, field, path, unknown, depth + 1)
    elif kind == "array":
        _array(value, field, path, unknown, depth + 1)
    elif kind == "map":
        _map(value, field, path, unknown, depth + 1)
    elif kind == "string":
        if not isinstance(value, str):
            raise _WrongType(value, path, "string")
    elif kind != "any":
        return _scalar(value, kind, field, path)
    return value


def _scalar(value: Any, kind: str, field: Shape, path: Path) -> Any:
    if kind == "integer":
        return _integer(value, field.format or "int32", path)
    if kind == "number":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _WrongType(value, path, "float64")
    elif kind == "boolean":
        if not isinstance(value, bool):
            raise _WrongType(value, path, "bool")
    elif kind == "quantity":
        return _quantity(value)
    elif kind == "intstr":
        if not isinstance(value, str):
            return _integer(value, "int32", None)
    elif kind == "bytes":
        _bytes(value, path)
    elif kind == "time":
        return _time(value, path, micro=field.ref.endswith("MicroTime"))
    return value


def _integer(value: Any, go: str, path: Path) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    limit = _LIMITS.get(go, 1 << 63)
    if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
        raise _WrongType(value, path, go)
    return value


def _quantity(value: Any) -> str:
    try:
        return canonical(value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else "?")
    except ValueError as error:
        raise DecodeError(str(error)) from error


def _bytes(value: Any, path: Path) -> None:
    if not isinstance(value, str):
        raise _WrongType(value, path, "[]uint8")
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        good = _BASE64.match(value)
        raise DecodeError(f"illegal base64 data at input byte {good.end() if good else 0}") from None


def _time(value: Any, path: Path, *, micro: bool) -> str:
    """In UTC and to the second (microsecond), as the API writes times."""
    if not isinstance(value, str):
        raise _WrongType(value, path, "string")
    if len(value) == (27 if micro else 20) and value[-1] == "Z" and _TIME.fullmatch(value):
        return value
    form = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    try:
        if not _TIME.fullmatch(value):
            raise ValueError
        moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise DecodeError(f'parsing time "{value}" as "{form}": cannot parse "{value}" as "2006"') from None
    return moment.isoformat(timespec="microseconds" if micro else "seconds").replace("+00:00", "Z")


def _array(value: Any, field: Shape, path: Path, unknown: list[Path], depth: int) -> None:
    if not isinstance(value, list):
        raise _WrongType(value, path, "[]" + _go_type(field.items))
    items = field.items
    if items is None or items.kind == "any":
        return
    for at, entry in enumerate(value):
        checked = _value(entry, items, (path, at), unknown, depth)
        if checked is not entry:
            value[at] = checked


def _go_type(shape: Shape | None) -> str:
    """As Go writes the type of a field: v1.PodSpec, []string, map[string]string."""
    if shape is None:
        return "interface {}"
    if shape.kind == "array":
        return "[]" + _go_type(shape.items)
    if shape.kind == "map":
        return "map[string]" + _go_type(shape.values)
    name = shape.target.name
    return _GO_TYPES.get(shape.kind) or (".".join(name.split(".")[-2:]) if name else "interface {}")


def _map(value: Any, field: Shape, path: Path, unknown: list[Path], depth: int) -> None:
    if not isinstance(value, dict):
        raise _WrongType(value, path, _go_type(field))
    values = field.values
    assert values is not None
    for key in [key for key, entry in value.items() if entry is None]:
        if values.kind == "string":
            value[key] = ""
        else:
            del value[key]
    if values.kind == "any":
        return
    named = values.kind in {"object", "array", "map"}  # as Go, a wrong plain value is told without its key
    for key, entry in value.items():
        checked = _value(entry, values, (path, key) if named else path, unknown, depth)
        if checked is not entry:
            value[key] = checked
