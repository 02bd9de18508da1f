"""YAML bodies into documents: anchors within bounds, text for dates, no tags. Slow to import, so imported when needed.

Source: sigs.k8s.io/yaml (keys become text, the document becomes what its JSON would be).
"""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from labctl.kube.codec import MAX_DEPTH, DecodeError, decode_json

_MAX_NODES = 500_000  # with every alias written out
_MORE_FOR_ALIASES = 10  # times the nodes that the text itself has
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Safe, and without dates: they are strings in the API."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, form) for tag, form in forms if tag != "tag:yaml.org,2002:timestamp"]
    for letter, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def decode(body: bytes) -> Any:
    """Parse one YAML document; DecodeError."""
    try:
        loader = _Loader(body)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measure(node)
            found = loader.construct_document(node)
        finally:
            loader.dispose()
        return decode_json(msgspec.json.encode(_plain(found)))  # what aliases share comes apart here
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, msgspec.MsgspecError) as error:
        raise DecodeError(f"error converting YAML to JSON: {error}") from error


def _measure(root: yaml.Node) -> None:
    """Refuse what is nested too deeply, contains itself, or grows out of bounds through its aliases."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        known = sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in open_nodes:
            raise DecodeError("error converting YAML to JSON: yaml: an anchor contains itself")
        if depth > MAX_DEPTH:
            raise DecodeError("error converting YAML to JSON: exceeded max depth")
        open_nodes.add(id(node))
        if isinstance(node, yaml.MappingNode):
            total = 1 + sum(1 + size(value, depth + 1) for _, value in node.value)
        else:
            total = 1 + sum(size(item, depth + 1) for item in node.value)
        open_nodes.discard(id(node))
        sizes[id(node)] = total
        return total

    written_out = size(root, 0)
    if written_out > _MAX_NODES or written_out > 1000 + _MORE_FOR_ALIASES * _written(root):
        raise DecodeError("error converting YAML to JSON: yaml: document contains excessive aliasing")


def _written(root: yaml.Node) -> int:
    """How many nodes the text itself has."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    return len(seen)


def _plain(value: Any) -> Any:
    """With text for keys, as JSON has them. Shared parts are handled once."""
    done: dict[int, Any] = {}

    def plain(value: Any) -> Any:
        if not isinstance(value, (dict, list)):
            if value is None or isinstance(value, (str, int, float, bool)):
                return value
            raise DecodeError(f"error converting YAML to JSON: a {type(value).__name__} has no JSON form")
        found = done.get(id(value))
        if found is None:
            if isinstance(value, dict):
                found = {_key(key): plain(entry) for key, entry in value.items()}
            else:
                found = [plain(entry) for entry in value]
            done[id(value)] = found
        return found

    return plain(value)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (int, float)):
        return str(key)
    raise DecodeError("error converting YAML to JSON: a key is neither text nor a number")
