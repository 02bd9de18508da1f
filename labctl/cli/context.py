"""What the commands share: the name option, completion of labs and nodes, output formats, lazy access to a lab."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from labctl.config import DEFAULT_NAME, settings
from labctl.runtime.errors import LabError
from labctl.vm.lab import Lab
from labctl.vm.state import LabState, labs

F = TypeVar("F", bound=Callable[..., Any])


class Group(click.Group):
    """A group that knows the order its commands were added in."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the order of a lab's life, not of the alphabet."""
        return list(self.commands)


def _complete_labs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    return [CompletionItem(name) for name in labs(settings().state_root) if name.startswith(incomplete)]


def _complete_nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    try:
        topology = LabState(settings().state_root, ctx.params.get("name") or default_name()).topology()
    except LabError:
        return []
    return [CompletionItem(m.name, help=m.role) for m in topology.machines if m.name.startswith(incomplete)]


def default_name() -> str:
    """LABCTL_NAME, else the only lab there is, else the customary name."""
    if named := os.environ.get("LABCTL_NAME"):
        return named
    there = labs(settings().state_root)
    return there[0] if len(there) == 1 else DEFAULT_NAME


def name_option(command: F) -> F:
    """`--name`: which lab; without it LABCTL_NAME, else the only one there is, else `lab`."""
    return click.option(
        "--name", "-n", default=None, metavar="LAB", shell_complete=_complete_labs,
        help="Which lab (LABCTL_NAME; default: the only one, or `lab`).",
    )(command)  # fmt: skip


def node_argument(command: F) -> F:
    """`NODE`: a machine of the lab."""
    return click.argument("node", shell_complete=_complete_nodes)(command)


def output_option(command: F) -> F:
    """`-o json`."""
    return click.option(
        "--output", "-o", type=click.Choice(["table", "json"]), default="table", help="How to print it."
    )(command)


def open_lab(name: str | None) -> Lab:
    """The existing lab that the options mean."""
    return Lab.open(settings(), name or default_name())
