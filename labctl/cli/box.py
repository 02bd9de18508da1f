"""Commands about the box that machines are made from."""

from __future__ import annotations

import click

from labctl.cli.console import OUT, ConsoleReporter
from labctl.cli.context import Group
from labctl.config import settings
from labctl.vm import box as node_box


@click.group(cls=Group)
def box() -> None:
    """The box that the lab's machines are made from."""


@box.command()
def build() -> None:
    """Build the box from Debian's packages, unless one with the same inputs is there."""
    reporter = ConsoleReporter()
    with reporter.phase("box"):
        path = node_box.box(settings().cache_dir, reporter.event)
    OUT.print(str(path))


COMMANDS = (box,)
