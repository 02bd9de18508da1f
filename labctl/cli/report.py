"""Commands on what drills left behind: compare, replay, bundle."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from labctl.cli.console import ERR, OUT, print_json, print_table
from labctl.cli.context import name_option, open_lab, output_option
from labctl.drills import bundle as bundles
from labctl.drills import replay as replays
from labctl.drills.compare import Comparison, broken, load
from labctl.drills.compare import compare as compared
from labctl.drills.lab import LabTarget
from labctl.drills.live import watching
from labctl.drills.report import compare_page, happened, seconds
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError

_REPORT = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("reports", metavar="REPORT...", nargs=-1, required=True, type=_REPORT)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the page that compares them here.")
@output_option
def compare(reports: tuple[Path, ...], html: Path | None, output: str) -> None:
    """Lay several runs beside each other: report.json files, or the folders they are in."""
    found = compared(load(reports))
    if html is not None:
        try:
            html.write_text(compare_page(found))
        except OSError as error:
            raise LabError(f"{html}: {error.strerror}") from error
    if output == "json":
        print_json(found)
        return
    _print(found)
    if html is not None:
        OUT.print(f"\nthe page: {html}", markup=False)


def _print(found: Comparison) -> None:
    styles = {"pass": "green", "fail": "red", "unknown": "yellow"}
    runs = []
    for run in found.runs:
        measures = run.report.measures
        style = "green" if run.report.exit_code == 0 else "red"
        requests = f"{measures.requests_failed} of {measures.requests_sent}"
        verdict = f"[{style}]{run.report.verdict.value}[/]"
        runs.append((escape(run.name), run.report.lab, run.report.profile, verdict, requests, ", ".join(broken(run))))
    print_table(("run", "lab", "timers", "verdict", "failed requests", "what broke"), runs)
    OUT.print()
    for row in found.rows:  # not a table: with many runs a line may be as long as it must
        figures = "  ".join(f"[{styles.get(one.result, 'default')}]{seconds(one.seconds):>7}[/]" for one in row.cells)
        limits = f"{seconds(row.lower_s)} to {seconds(row.upper_s)}"
        median = f"median {seconds(row.median_s)}{happened(row)}"
        OUT.print(f"{escape(row.title):<52}[dim]{limits:<19}[/]{figures}  [dim]{median}[/]")
    OUT.print(f"\n{found.passed} of {len(found.runs)} passed")


@click.command()
@name_option
@click.argument("report", metavar="[REPORT]", required=False, type=_REPORT)
@click.option(
    "--speed", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="Times as fast as it was."
)
@click.option("--step", is_flag=True, help="Stop after each line until Enter is pressed.")
@click.option(
    "--from", "from_s", type=float, default=float("-inf"), help="Begin at this second, counted from the fault."
)
@click.option("--until", "until_s", type=float, default=float("inf"), help="End at this second.")
def replay(name: str | None, report: Path | None, speed: float, step: bool, from_s: float, until_s: float) -> None:
    """Show a drill again, as it was seen live: at once where this is no terminal.

    REPORT is a report.json with its history.jsonl beside it, or the folder they are in; without it the latest run.
    """
    judged, history = replays.opened(_folder(name, report))
    steps = list(replays.steps_of(history, from_s=from_s, until_s=until_s))
    pace = speed if OUT.is_terminal else float("inf")
    with watching(OUT) as ui:
        pause = _enter if step and OUT.is_terminal else None
        replays.play(history, judged, ui, SystemClock(), steps=steps, speed=pace, pause=pause)
    OUT.print(f"\n{judged.verdict.value}: {judged.drill} on {judged.lab}, {judged.started_at[:19]}Z", markup=False)


def _enter() -> bool:
    """Wait for a key; False on `q`."""
    return click.getchar() not in {"q", "\x1b"}


@click.command()
@name_option
@click.argument("report", metavar="[REPORT]", required=False, type=_REPORT)
@click.option("--file", "-f", type=click.Path(dir_okay=False, path_type=Path), help="The archive: .tar.gz or .tar.zst.")
def bundle(name: str | None, report: Path | None, file: Path | None) -> None:
    """Pack all that a drill left into one archive: report, record, logs of every machine.

    REPORT is a run's report.json or folder; without it the lab's latest run.
    """
    folder = _folder(name, report)
    archive = file or Path(f"{folder.resolve().name}.tar.gz")
    files, size = bundles.pack(folder.resolve(), archive)
    OUT.print(f"{archive}: {files} files, {size / 1e6:.1f} MB", markup=False)
    ERR.print("logs may hold what you would not send on: look into it first", markup=False)


def _folder(name: str | None, report: Path | None) -> Path:
    """The folder of the run that is meant."""
    if report is None:
        return bundles.newest(LabTarget(open_lab(name)).drills_dir)
    return report if report.is_dir() else report.parent


DRILL_COMMANDS = (compare, replay)
COMMANDS = (bundle,)
