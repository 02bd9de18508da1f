"""Commands for the masters: backup and restore of etcd, certificates, a master made anew."""

from __future__ import annotations

from pathlib import Path

import click

from labctl.cli.console import OUT, ConsoleReporter, print_json, print_table
from labctl.cli.context import Group, name_option, node_argument, open_lab, output_option
from labctl.vm import masters
from labctl.vm.pki import Pki


@click.command()
@name_option
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
def backup(name: str | None, path: Path) -> None:
    """Write what etcd knows to FILE, a snapshot that etcd's own tools read too. The lab goes on meanwhile."""
    told = masters.backup(open_lab(name), path, ConsoleReporter())
    OUT.print(f"{path}: revision {told.revision}, {told.total_key} keys, {told.total_size} bytes, hash {told.hash:08x}")


@click.command()
@name_option
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
def restore(name: str | None, path: Path) -> None:
    """Bring the API back to what FILE has. Pods that it does not know are stopped."""
    masters.restore(open_lab(name), path, ConsoleReporter())


@click.command()
@name_option
@output_option
def certs(name: str | None, output: str) -> None:
    """Show the certificates and how long they last; `labctl up` renews those that are due."""
    lab = open_lab(name)
    found = Pki(lab.state.dir, lab.clock).expiries(lab.topology)
    if output == "json":
        print_json(found)
        return
    rows = [(one.path, f"{one.expires:%Y-%m-%d}", f"{one.days_left} days", "due" if one.due else "-") for one in found]
    print_table(("certificate", "expires", "left", "renewal"), rows)


@click.group(cls=Group)
def master() -> None:
    """Look after single masters of several."""


@master.command()
@name_option
@node_argument
def replace(name: str | None, node: str) -> None:
    """Make the master NODE anew: a new etcd member, new certificates. The others go on meanwhile."""
    masters.replace(open_lab(name), node, ConsoleReporter())


COMMANDS = (backup, restore, certs, master)
