"""Commands of the drills: list, show, run, suite; and heal, which undoes what a drill left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from labctl.cli.console import ERR, OUT, print_json, print_table
from labctl.cli.context import Group, name_option, open_lab, output_option
from labctl.cli.drill_print import print_plan, print_suite
from labctl.cli.report import DRILL_COMMANDS
from labctl.drills import runner
from labctl.drills.lab import LabTarget
from labctl.drills.live import print_report, watching
from labctl.drills.model import Drill, Options
from labctl.drills.plan import propose
from labctl.drills.registry import catalog, drill_named
from labctl.drills.suite import run_suite
from labctl.drills.suite_report import write_suite
from labctl.runtime.errors import LabError, UsageError


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
@click.option("--dry-run", is_flag=True, help="Print what would be done, measured and undone; touch nothing.")
@output_option
def run(
    name: str | None, drill_name: str, nodes: tuple[str, ...], report_dir: Path | None, dry_run: bool, output: str
) -> None:
    """Run DRILL: exit code 0 on the verdict pass, 1 otherwise.

    It refuses where the lab is not steady. Ctrl-C ends it early and heals first.
    """
    found = drill_named(drill_name)
    target = LabTarget(open_lab(name))
    for node in nodes:
        open_lab(name).machine(node)
    options = Options(nodes=nodes, report_dir=report_dir)
    if dry_run:
        plan = propose(found, target, options)
        print_json(plan) if output == "json" else print_plan(OUT, plan)
        sys.exit(plan.exit_code)
    with watching(ERR) as ui:
        report = runner.run(found, target, options, ui)
    if output == "json":
        print_json(report)
    else:
        print_report(OUT, report)
    sys.exit(report.exit_code)


@drill.command()
@name_option
@click.option("--names", multiple=True, metavar="A,B", help="Which drills (default: all); may be repeated.")
@click.option("--all", "every", is_flag=True, help="Every drill there is.")
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Decides the order; the same seed, the same order."
)
@click.option(
    "--report-dir", type=click.Path(file_okay=False, path_type=Path), help="A folder for each drill's report."
)
@output_option
def suite(
    name: str | None, names: tuple[str, ...], every: bool, seed: int, report_dir: Path | None, output: str
) -> None:
    """Run many drills, one after the other: exit code 0 where all that can run here pass.

    One that fails does not keep the next from running. Ctrl-C heals the one that runs, and ends the suite.
    """
    chosen = _chosen(names, every)
    target = LabTarget(open_lab(name))
    done, reports = run_suite(
        chosen,
        target,
        Options(report_dir=report_dir),
        seed=seed,
        watch=lambda: watching(ERR),
        begin=lambda number, count, each: ERR.print(f"\n[bold]{number} of {count}: {each.name}[/]: {each.title}"),
    )
    if report_dir is not None:
        write_suite(report_dir, done, reports)
    print_json(done) if output == "json" else print_suite(OUT, done)
    sys.exit(done.exit_code)


def _chosen(names: Sequence[str], every: bool) -> tuple[Drill, ...]:
    wanted = [each.strip() for part in names for each in part.split(",") if each.strip()]
    if wanted and every:
        raise UsageError("--names and --all exclude each other")
    if names and not wanted:
        raise UsageError("--names names no drill", hint=f"the drills are: {', '.join(catalog())}")
    return tuple(drill_named(each) for each in dict.fromkeys(wanted)) if wanted else tuple(catalog().values())


@click.command()
@name_option
def heal(name: str | None) -> None:
    """Undo whatever a drill left behind; do nothing where nothing is left."""
    target = LabTarget(open_lab(name))
    done = runner.heal(target)
    for sentence in done.sentences or (f"no drill left anything behind on lab {target.lab!r}",):
        OUT.print(sentence, markup=False)
    if not done.ok:
        raise LabError(
            f"lab {target.lab!r} is not healed: what failed above stays written down",
            hint="mend what it names (`labctl status` shows the machines), then run `labctl heal` again",
        )


for command in DRILL_COMMANDS:
    drill.add_command(command)

COMMANDS = (drill, heal)
