"""Commands of the drills: list, show, run."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from labctl.cli.console import ERR, OUT, print_json, print_table
from labctl.cli.context import Group, name_option, open_lab, output_option
from labctl.drills.lab import LabTarget
from labctl.drills.live import print_report, watching
from labctl.drills.model import Options
from labctl.drills.registry import catalog, drill_named
from labctl.drills.runner import run as run_drill


def _complete_drills(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    return [CompletionItem(d.name, help=d.title) for d in catalog().values() if d.name.startswith(incomplete)]


@click.group(cls=Group)
def drill() -> None:
    """Scripted failures, recorded and judged."""


@drill.command("list")
@output_option
def list_(output: str) -> None:
    """List the drills."""
    known = catalog().values()
    if output == "json":
        print_json([{"name": each.name, "title": each.title} for each in known])
        return
    print_table(("name", "what happens"), [(each.name, each.title) for each in known])


@drill.command()
@click.argument("drill_name", metavar="DRILL", shell_complete=_complete_drills)
def show(drill_name: str) -> None:
    """Say what DRILL does, step by step, and what it shows."""
    found = drill_named(drill_name)
    OUT.print(f"[bold]{found.name}[/]: {found.title}\n\n{found.shows}\n")
    for number, step in enumerate(found.steps, start=1):
        OUT.print(f"  {number}. {step}")
    for provider, why in found.impossible_on.items():
        OUT.print(f"\nnot on {provider}: {why}")


@drill.command()
@name_option
@click.argument("drill_name", metavar="DRILL", shell_complete=_complete_drills)
@click.option("--node", "nodes", multiple=True, help="The victim, where the drill lets you choose.")
@click.option(
    "--report-dir", type=click.Path(file_okay=False, path_type=Path), help="Put report.json and the HTML page here too."
)
@output_option
def run(name: str | None, drill_name: str, nodes: tuple[str, ...], report_dir: Path | None, output: str) -> None:
    """Run DRILL: exit code 0 on the verdict pass, 1 otherwise."""
    found = drill_named(drill_name)
    target = LabTarget(open_lab(name))
    for node in nodes:
        open_lab(name).machine(node)
    with watching(ERR) as ui:
        report = run_drill(found, target, Options(nodes=nodes, report_dir=report_dir), ui)
    if output == "json":
        print_json(report)
    else:
        print_report(OUT, report)
    sys.exit(report.exit_code)


COMMANDS = (drill,)
