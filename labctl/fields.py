"""Files that people write in YAML, decoded into frozen structs: an error names file, line and field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from labctl.runtime.errors import UsageError

T = TypeVar("T")
Path_ = tuple[str | int, ...]  # the keys and indexes that lead to a field


class _Loader(yaml.SafeLoader):
    """As YAML 1.2 and editors have it: `on`, `off`, `yes` and `no` are words."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the base class
        first: [(tag, found) for tag, found in known if tag != "tag:yaml.org,2002:bool"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


class FieldError(Exception):
    """A wrong field; `path` leads to it."""

    def __init__(self, path: Path_, problem: str) -> None:
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        super().__init__(f"{name}: {problem}" if name else problem)
        self.path = path


_AT = re.compile(r"^(?P<problem>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)


def read(path: Path) -> str:
    """The file's text; UsageError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def parse(text: str, source: str, decode: Callable[[Any], T]) -> T:
    """What `decode` makes of the YAML in `text`; a FieldError of its becomes a UsageError with `source` and line."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{source}:{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:  # e.g. a control character
        raise UsageError(f"{source}: not YAML: {error}") from error
    try:
        return decode(data if data is not None else {})
    except FieldError as error:
        raise UsageError(f"{source}:{line_of(node, error.path)}: {error}") from error


def convert(
    data: object,
    kind: Any,
    known: Callable[[Path_], Sequence[str]],
    forms: Callable[[Path_], Sequence[str]] = lambda _: (),
) -> Any:
    """`data` as a `kind`; FieldError.

    For the message, `known` tells which fields or tags are possible at a path, `forms` what a text may look like.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        assert found
        path: Path_ = tuple(
            int(part[1:-1]) if part.startswith("[") else part
            for part in re.findall(r"\[\d+\]|[^.\[\]$]+", found["path"] or "")
        )
        problem = found["problem"]
        if unknown := re.search(r"unknown field `(.*)`", problem):
            path, problem = (*path, unknown[1]), f"unknown field{meant(unknown[1], known(path))}"
        elif tag := re.search(r"^Invalid (?:enum )?value '(.*)'$", problem):
            problem = f"{tag[1]!r} is not known here{meant(tag[1], known(path))}"
        elif "matching regex" in problem and (possible := forms(path)):
            value = _value_at(data, path)
            problem = f"{value!r} is not possible here{meant(str(value), possible)}"
        raise FieldError(path, problem[0].lower() + problem[1:]) from error


def _value_at(data: Any, path: Path_) -> Any:
    for part in path:
        data = data[part]
    return data


def meant(word: str, known: Sequence[str]) -> str:
    """`; known are x, y, z; did you mean 'x'?`, as far as there is something to tell."""
    near = difflib.get_close_matches(word, known, n=1)
    told = f"; known are {', '.join(known)}" if known else ""
    return f"{told}; did you mean {near[0]!r}?" if near else told


def line_of(node: yaml.Node | None, path: Path_) -> int:
    """The line (from 1) of the deepest part of `path` that stands in the file."""
    line = 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
