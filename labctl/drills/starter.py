"""Starting a drill file: a commented example that runs as it is, and the schema beside it for editors."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import msgspec

from labctl.drills import language
from labctl.drills.registry import catalog
from labctl.fields import FieldError, convert
from labctl.runtime.errors import LabError, UsageError


def text(name: str, file: str) -> str:
    """The example, for a drill called `name` in a file called `file`; UsageError for a name that cannot be one."""
    try:
        convert(name, language.Name, lambda _: ())
    except FieldError as error:
        raise UsageError(
            f"{name!r} cannot be a drill's name", hint="lower-case letters, digits and dashes, e.g. flaky-kubelet"
        ) from error
    if name in catalog():
        raise UsageError(f"there is a drill {name!r} already", hint="`labctl drill show` tells what it does")
    found = files("labctl.drills").joinpath("templates/starter.yaml").read_text(encoding="utf-8")
    return found.replace("{name}", name).replace("{file}", file)


def schema_text() -> str:
    """The JSON schema as it stands in a file."""
    return msgspec.json.format(msgspec.json.encode(language.schema()), indent=2).decode() + "\n"


def write(name: str, path: Path) -> tuple[Path, Path]:
    """Write the example to `path` and the schema beside it; UsageError where `path` is taken."""
    written = text(name, path.name)
    schema = path.parent / language.SCHEMA_NAME
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(written)
        schema.write_text(schema_text(), encoding="utf-8")
    except FileExistsError as error:
        raise UsageError(f"{path} is there already", hint="say --output to write elsewhere") from error
    except OSError as error:
        raise LabError(f"{error.filename or path}: {error.strerror}") from error
    return path, schema
