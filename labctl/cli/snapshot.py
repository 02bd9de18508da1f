"""Commands that keep a whole lab and bring it back."""

from __future__ import annotations

import click

from labctl.cli.console import OUT, ConsoleReporter, print_json
from labctl.cli.context import Group, name_option, open_lab, output_option


@click.group(cls=Group)
def snapshot() -> None:
    """Keep the whole lab, memory included where the provider can, and bring it back."""


@snapshot.command()
@name_option
@click.argument("snapshot_name", metavar="SNAPSHOT")
def save(name: str | None, snapshot_name: str) -> None:
    """Keep the lab as it is now under the name SNAPSHOT."""
    open_lab(name).snapshot_save(snapshot_name, ConsoleReporter())


@snapshot.command()
@name_option
@click.argument("snapshot_name", metavar="SNAPSHOT")
def restore(name: str | None, snapshot_name: str) -> None:
    """Bring the lab back to SNAPSHOT; returns when all nodes are Ready."""
    open_lab(name).snapshot_restore(snapshot_name, ConsoleReporter())


@snapshot.command("list")
@name_option
@output_option
def list_(name: str | None, output: str) -> None:
    """List the snapshots, oldest first."""
    names = list(open_lab(name).snapshot_list())
    if output == "json":
        print_json(names)
        return
    for each in names:
        OUT.print(each)


@snapshot.command()
@name_option
@click.argument("snapshot_name", metavar="SNAPSHOT")
def delete(name: str | None, snapshot_name: str) -> None:
    """Forget SNAPSHOT."""
    open_lab(name).snapshot_delete(snapshot_name, ConsoleReporter())


COMMANDS = (snapshot,)
