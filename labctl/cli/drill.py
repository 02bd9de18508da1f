"""Commands of the drills: list, show, run, suite, new, schema; and heal, which undoes what a drill left."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
from click.shell_completion import CompletionItem
from rich.markup import escape

from labctl.cli.console import ERR, OUT, print_json, print_table
from labctl.cli.context import F, Group, name_option, open_lab, output_option
from labctl.cli.drill_print import print_plan, print_suite
from labctl.cli.report import DRILL_COMMANDS
from labctl.drills import runner
from labctl.drills.foreign import LOG_IMAGE, ForeignTarget, fitted, opened
from labctl.drills.lab import LabTarget
from labctl.drills.live import print_report, watching
from labctl.drills.model import Drill, Options
from labctl.drills.plan import propose
from labctl.drills.registry import catalog, drill_from, drill_named
from labctl.drills.starter import schema_text
from labctl.drills.starter import write as write_starter
from labctl.drills.suite import run_suite
from labctl.drills.suite_report import write_suite
from labctl.drills.target import Target
from labctl.drills.workload import IMAGE, Image
from labctl.kube.timing import PROFILES
from labctl.runtime.errors import LabError, UsageError


def _complete_drills(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    return [CompletionItem(d.name, help=d.title) for d in catalog().values() if d.name.startswith(incomplete)]


@dataclass(frozen=True, kw_only=True)
class Where:
    """What the drill runs against: a lab by name, or any cluster by its kubeconfig."""

    name: str | None
    kubeconfig: Path | None
    inventory: Path | None
    profile: str

    def target(self) -> Target:
        """Open it; UsageError where the options contradict each other."""
        if self.kubeconfig is None:
            if self.inventory is not None:
                raise UsageError("--inventory is for clusters that labctl did not make", hint="name their --kubeconfig")
            return LabTarget(open_lab(self.name))
        if self.name is not None:
            raise UsageError("--name and --kubeconfig exclude each other")
        return opened(self.kubeconfig, self.inventory, self.profile)

    def fitted(self, drill: Drill, target: Target, options: Options) -> Drill:
        """The drill as it can run there."""
        return fitted(drill, target, options) if isinstance(target, ForeignTarget) else drill


def _where_options(command: F) -> F:
    """Which lab or cluster: `--name`, or `--kubeconfig` and what belongs to it."""

    @functools.wraps(command)
    def gathered(
        *args: Any, name: str | None, kubeconfig: Path | None, inventory: Path | None, profile: str, **others: Any
    ) -> Any:
        where = Where(name=name, kubeconfig=kubeconfig, inventory=inventory, profile=profile)
        return command(*args, where=where, **others)

    file = click.Path(dir_okay=False, path_type=Path)
    for option in (
        click.option("--profile", type=click.Choice(list(PROFILES)), default="kubernetes", show_default=True,
                     help="With --kubeconfig: the timers that the cluster runs with."),
        click.option("--inventory", type=file, help="With --kubeconfig: how its machines are reached by ssh."),
        click.option("--kubeconfig", type=file, help="Any cluster, instead of a lab."),
        name_option,
    ):  # fmt: skip
        gathered = option(gathered)
    return cast(F, gathered)


def _image_options(command: F) -> F:
    """What our own workloads run, where the cluster cannot have the labs' image; gathered as `images`."""

    @functools.wraps(command)
    def gathered(*args: Any, image: str | None, image_port: int, stateful_image: str | None, **others: Any) -> Any:
        web = Image(name=image, port=image_port) if image else None
        return command(*args, images=Images(web=web, stateful=stateful_image), **others)

    for option in (
        click.option("--stateful-image", help="Of busybox, for the StatefulSet that some drills write to; `none`: "
                     f"without it. With --kubeconfig by default {LOG_IMAGE}."),
        click.option("--image-port", type=click.IntRange(1, 65_535), default=8080, show_default=True,
                     help="Where IMAGE listens."),
        click.option("--image", help="Of a web server that the cluster can pull, where no workload is labelled."),
    ):  # fmt: skip
        gathered = option(gathered)
    return cast(F, gathered)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Of workloads of our own; None: the labs' own."""

    web: Image | None
    stateful: str | None

    def options(self, where: Where, **others: Any) -> Options:
        """How to run a drill there."""
        log_image = self.stateful or (IMAGE if where.kubeconfig is None else LOG_IMAGE)
        return Options(image=self.web, log_image=log_image, stateful=self.stateful != "none", **others)


def _file_option(command: F) -> F:
    """`-f`: a drill file instead of a drill's name."""
    return click.option(
        "--file",
        "-f",
        "path",
        type=click.Path(dir_okay=False, path_type=Path),
        help="A drill file (`labctl drill new`).",
    )(command)


def _drill(name: str | None, path: Path | None) -> Drill:
    if (name is None) == (path is None):
        raise UsageError("name a drill, or a file with -f", hint=f"the drills are: {', '.join(catalog())}")
    return drill_from(path) if path is not None else drill_named(name or "")


@click.group(cls=Group)
def drill() -> None:
    """Scripted failures, recorded and judged."""


@drill.command("list")
@_where_options
@_image_options
@output_option
def list_(where: Where, images: Images, output: str) -> None:
    """List the drills; with --kubeconfig, which of them can run there, and why the others cannot."""
    known, why = list(catalog().values()), dict[str, str]()
    if where.kubeconfig is not None:
        target, options = where.target(), images.options(where)
        here = [where.fitted(each, target, options) for each in known]
        why = {each.name: each.impossible_on.get(target.provider, "") for each in here}
    if output == "json":
        print_json([{"name": d.name, "title": d.title, **({"impossible": why[d.name]} if why else {})} for d in known])
    elif why:
        print_table(("name", "can run here"), [(name, f"no: {text}" if text else "yes") for name, text in why.items()])
    else:
        print_table(("name", "what happens"), [(each.name, each.title) for each in known])


@drill.command()
@click.argument("drill_name", metavar="[DRILL]", required=False, shell_complete=_complete_drills)
@_file_option
def show(drill_name: str | None, path: Path | None) -> None:
    """Say what DRILL, or the one of a FILE, does, step by step, and what it shows."""
    found = _drill(drill_name, path)
    OUT.print(f"[bold]{found.name}[/]: {found.title}\n\n{found.shows}\n")
    for number, step in enumerate(found.steps, start=1):
        OUT.print(f"  {number}. {step}")
    if found.masters > 1:
        OUT.print(f"\nonly with {found.masters} masters: others must be there to take over")
    for provider, why in found.impossible_on.items():
        OUT.print(f"\nnot on {provider}: {why}")


@drill.command()
@_where_options
@click.argument("drill_name", metavar="[DRILL]", required=False, shell_complete=_complete_drills)
@_file_option
@click.option("--node", "nodes", multiple=True, help="The victim, where the drill lets you choose.")
@click.option(
    "--report-dir", type=click.Path(file_okay=False, path_type=Path), help="Put report.json and the HTML page here too."
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, measured and undone; touch nothing.")
@_image_options
@output_option
def run(
    where: Where,
    drill_name: str | None,
    path: Path | None,
    nodes: tuple[str, ...],
    report_dir: Path | None,
    dry_run: bool,
    images: Images,
    output: str,
) -> None:
    """Run DRILL, or the one of a FILE: exit code 0 on the verdict pass, 1 otherwise.

    It refuses where the lab is not steady. Ctrl-C ends it early and heals first.
    """
    found = _drill(drill_name, path)
    target = where.target()
    if where.kubeconfig is None:
        for node in nodes:
            open_lab(where.name).machine(node)
    options = images.options(where, nodes=nodes, report_dir=report_dir)
    found = where.fitted(found, target, options)
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
@_where_options
@click.option("--names", multiple=True, metavar="A,B", help="Which drills (default: all); may be repeated.")
@click.option("--all", "every", is_flag=True, help="Every drill there is.")
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Decides the order; the same seed, the same order."
)
@click.option(
    "--report-dir", type=click.Path(file_okay=False, path_type=Path), help="A folder for each drill's report."
)
@_image_options
@output_option
def suite(
    where: Where,
    names: tuple[str, ...],
    every: bool,
    seed: int,
    report_dir: Path | None,
    images: Images,
    output: str,
) -> None:
    """Run many drills, one after the other: exit code 0 where all that can run here pass.

    One that fails does not keep the next from running. Ctrl-C heals the one that runs, and ends the suite.
    """
    chosen = _chosen(names, every)
    target, options = where.target(), images.options(where, report_dir=report_dir)
    done, reports = run_suite(
        [where.fitted(each, target, options) for each in chosen],
        target,
        options,
        seed=seed,
        watch=lambda: watching(ERR),
        begin=lambda number, count, each: ERR.print(f"\n[bold]{number} of {count}: {each.name}[/]: {each.title}"),
    )
    if report_dir is not None:
        write_suite(report_dir, done, reports)
    print_json(done) if output == "json" else print_suite(OUT, done)
    sys.exit(done.exit_code)


@drill.command()
@click.argument("drill_name", metavar="NAME")
@click.option(
    "--output", "path", type=click.Path(dir_okay=False, path_type=Path), help="Where to (default: NAME.yaml)."
)
def new(drill_name: str, path: Path | None) -> None:
    """Write a commented drill file called NAME, ready to run, and the schema for editors beside it."""
    written, schema_path = write_starter(drill_name, path or Path(f"{drill_name}.yaml"))
    OUT.print(f"{written}\n{schema_path}", markup=False)
    OUT.print(f"  [bold]labctl drill run -f {escape(str(written))} --dry-run[/]  [dim]what it would do[/]")


@drill.command()
def schema() -> None:
    """Print the JSON schema of drill files."""
    OUT.out(schema_text().rstrip(), highlight=False)


def _chosen(names: Sequence[str], every: bool) -> tuple[Drill, ...]:
    wanted = [each.strip() for part in names for each in part.split(",") if each.strip()]
    if wanted and every:
        raise UsageError("--names and --all exclude each other")
    if names and not wanted:
        raise UsageError("--names names no drill", hint=f"the drills are: {', '.join(catalog())}")
    return tuple(drill_named(each) for each in dict.fromkeys(wanted)) if wanted else tuple(catalog().values())


@click.command()
@_where_options
def heal(where: Where) -> None:
    """Undo whatever a drill left behind; do nothing where nothing is left."""
    target = where.target()
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
