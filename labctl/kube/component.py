"""What the programs of all components do alike: one argument, one configuration file, one line where they fail."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from labctl.kube.timing import PROFILES, Profile
from labctl.runtime import log
from labctl.runtime.errors import LabError, UsageError


class ComponentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A component's JSON file, decoded once, never changed. `__post_init__` checks by raising ValueError."""

    profile: Literal["fast", "kubernetes"] = "fast"

    @property
    def timing(self) -> Profile:
        """The profile's numbers."""
        return PROFILES[self.profile]


Config = TypeVar("Config", bound=ComponentConfig)


def load(path: str, kind: type[Config]) -> Config:
    """Read and check `path`; UsageError (exit code 2) names the file and the field that is wrong."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=kind)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="labctl up writes the nodes' configuration") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from error


def main(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> int:
    """Parse `--config` and what `parser` knows besides, run; the exit code, 2 for a bad configuration."""
    parser.add_argument("--config", required=True, metavar="FILE", help="the component's configuration, JSON")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log more")
    form = parser.get_default("logging_format") or "text"
    parser.add_argument("--logging-format", choices=("text", "json"), default=form, help="how to log (%(default)s)")
    options = parser.parse_args()
    log.set_up(options.verbose, options.logging_format)
    try:
        return run(options)
    except LabError as error:
        print(f"error: {error}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
