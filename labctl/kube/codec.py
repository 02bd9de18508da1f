"""Reading bodies: JSON and YAML into documents, and documents checked against their schema.

The check prunes nulls, as Kubernetes does, finds fields that the schema does not know, and refuses values of the
wrong type. Unknown fields stay in the document: the caller decides what becomes of them.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from labctl.kube.quantity import canonical
from labctl.kube.schema import Shape
from labctl.runtime.errors import LabError

Document = dict[str, Any]

_MAX_DEPTH = 100
_GO_TYPES = {"string": "string", "integer": "int32", "number": "float64", "boolean": "bool"}


class DecodeError(LabError):
    """The body cannot be read as what it should be."""


def decode_json(body: bytes) -> Any:
    """Parse JSON; DecodeError."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DecodeError(f"invalid JSON: {error}") from error


def decode_yaml(body: bytes) -> Any:
    """Parse one YAML document without tags, aliases or anchors; DecodeError."""
    import yaml  # noqa: PLC0415 - rarely sent, slow to import

    class Plain(yaml.SafeLoader):
        """No aliases: they make small bodies into huge documents. No dates: they are strings in the API."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.composer.ComposerError(None, None, "aliases are not accepted")
            return super().compose_node(parent, index)

    Plain.yaml_implicit_resolvers = {
        letter: [(tag, form) for tag, form in forms if tag != "tag:yaml.org,2002:timestamp"]
        for letter, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(body, Loader=Plain)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DecodeError(f"invalid YAML: {error}") from error


def clean(document: Document, shape: Shape | None) -> list[str]:
    """Prune nulls in place, check types; the paths of unknown fields. DecodeError names the field."""
    unknown: list[str] = []
    if shape is not None:
        _object(document, shape, "", unknown, 0)
    return unknown


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "null"


def _wrong(value: Any, path: str, go: str) -> DecodeError:
    field = path.lstrip(".")
    return DecodeError(f"json: cannot unmarshal {_json_type(value)} into Go struct field {field} of type {go}")


def _object(node: Any, shape: Shape, path: str, unknown: list[str], depth: int) -> None:
    if not isinstance(node, dict):
        raise _wrong(node, path, shape.target.name.rpartition(".")[2] or "struct")
    if depth > _MAX_DEPTH:
        raise DecodeError("the object is nested too deeply")
    properties = shape.properties
    for key in [key for key, value in node.items() if value is None]:
        del node[key]
    for key, value in node.items():
        field = properties.get(key)
        if field is None:
            unknown.append(f"{path}.{key}".lstrip("."))
            continue
        checked = _value(value, field, f"{path}.{key}", unknown, depth)
        if checked is not value:
            node[key] = checked


def _value(value: Any, field: Shape, path: str, unknown: list[str], depth: int) -> Any:
    kind = field.kind
    if kind == "object":
        _object(value, field, path, unknown, depth + 1)
    elif kind == "array":
        _array(value, field, path, unknown, depth + 1)
    elif kind == "map":
        _map(value, field, path, unknown, depth + 1)
    elif kind in {"string", "time"}:
        if not isinstance(value, str):
            raise _wrong(value, path, "string")
    elif kind != "any":
        return _scalar(value, kind, path)
    return value


def _scalar(value: Any, kind: str, path: str) -> Any:
    if kind == "integer":
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(value, path, "int32")
    elif kind == "number":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(value, path, "float64")
    elif kind == "boolean":
        if not isinstance(value, bool):
            raise _wrong(value, path, "bool")
    elif kind == "quantity":
        return _quantity(value, path)
    elif kind == "intstr":
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise _wrong(value, path, "intstr.IntOrString")
    elif kind == "bytes":
        try:
            base64.b64decode(value, validate=True)
        except (TypeError, binascii.Error, ValueError):
            raise DecodeError(f"illegal base64 data in {path.lstrip('.')}") from None
    return value


def _quantity(value: Any, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _wrong(value, path, "resource.Quantity")
    try:
        return canonical(value)
    except ValueError as error:
        raise DecodeError(f"{path.lstrip('.')}: {error}") from error


def _array(value: Any, field: Shape, path: str, unknown: list[str], depth: int) -> None:
    if not isinstance(value, list):
        raise _wrong(value, path, "[]" + _element(field.items))
    items = field.items
    if items is None or items.kind == "any":
        return
    for at, entry in enumerate(value):
        checked = _value(entry, items, f"{path}[{at}]", unknown, depth)
        if checked is not entry:
            value[at] = checked


def _element(items: Shape | None) -> str:
    return "" if items is None else _GO_TYPES.get(items.kind, items.ref.rpartition(".")[2])


def _map(value: Any, field: Shape, path: str, unknown: list[str], depth: int) -> None:
    if not isinstance(value, dict):
        raise _wrong(value, path, "map[string]" + _element(field.values))
    values = field.values
    assert values is not None
    for key in [key for key, entry in value.items() if entry is None]:
        if values.kind == "string":
            value[key] = ""
        else:
            del value[key]
    if values.kind == "any":
        return
    for key, entry in value.items():
        checked = _value(entry, values, f"{path}.{key}", unknown, depth)
        if checked is not entry:
            value[key] = checked
