"""Several runs beside each other: which promises held in which run, and how the times are spread. Pure, but for `load`.

Runs of one drill under one profile are held against the same bounds; of others a comparison still tells the figures,
each against its own bound.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from labctl.drills.model import Judged, Report
from labctl.runtime.errors import UsageError

JSON_NAME = "report.json"
_decoder = msgspec.json.Decoder(Report)


@dataclass(frozen=True, slots=True)
class Run:
    """A report and the name it goes by."""

    name: str
    report: Report


@dataclass(frozen=True, slots=True)
class Cell:
    """One run's figure for one measure: `result` is a bound's result, or "" where that run sets no bound."""

    seconds: float | None
    result: str


@dataclass(frozen=True, slots=True)
class Row:
    """One measure over all runs, in the runs' order; the spread counts the runs in which it happened."""

    measure: str
    title: str
    cells: tuple[Cell, ...]
    lower_s: float | None  # None where there is none, or where the runs differ in it
    upper_s: float | None
    least_s: float | None
    median_s: float | None
    most_s: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of it."""

    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    letters: tuple[str, ...]
    titles: tuple[str, ...]  # of the letters

    @property
    def drills(self) -> tuple[str, ...]:
        """The drills compared, each once."""
        return tuple(dict.fromkeys(run.report.drill for run in self.runs))

    @property
    def passed(self) -> int:
        """How many runs passed."""
        return sum(run.report.exit_code == 0 for run in self.runs)


def load(paths: Sequence[Path]) -> tuple[Run, ...]:
    """Read reports: a `report.json`, or a folder that holds one. UsageError names the file that is none."""
    runs = []
    for path in paths:
        file = path / JSON_NAME if path.is_dir() else path
        try:
            report = _decoder.decode(file.read_bytes())
        except OSError as error:
            raise UsageError(
                f"{file}: {error.strerror}", hint="give report.json files, or the folders they are in"
            ) from error
        except msgspec.MsgspecError as error:
            raise UsageError(f"{file}: not a drill's report: {error}") from error
        runs.append(Run(_name(file, report), report))
    return tuple(runs)


def _name(file: Path, report: Report) -> str:
    """The run folder's name says when and what; a report elsewhere is known by its folder."""
    return Path(report.run_dir).name or file.resolve().parent.name


def compare(runs: Sequence[Run]) -> Comparison:
    """Lay the runs side by side."""
    measures = dict.fromkeys(one.measure for run in runs for one in run.report.contract)
    letters = {letter: one.title for run in runs for letter, one in run.report.invariants.items()}
    return Comparison(
        tuple(runs), tuple(_row(measure, runs) for measure in measures), tuple(letters), tuple(letters.values())
    )


def _row(measure: str, runs: Sequence[Run]) -> Row:
    judged = [next((one for one in run.report.contract if one.measure == measure), None) for run in runs]
    cells = tuple(
        Cell(getattr(run.report.measures, measure, None) if one is None else one.measured_s, one.result if one else "")
        for run, one in zip(runs, judged, strict=True)
    )
    bounds = [one for one in judged if one is not None]
    times = [cell.seconds for cell in cells if cell.seconds is not None]
    return Row(
        measure=measure,
        title=bounds[0].title,
        cells=cells,
        lower_s=_common([one.lower_s for one in bounds]),
        upper_s=_common([one.upper_s for one in bounds]),
        least_s=min(times, default=None),
        median_s=statistics.median(times) if times else None,
        most_s=max(times, default=None),
    )


def _common(values: Sequence[float | None]) -> float | None:
    return values[0] if len(set(values)) == 1 else None


def broken(run: Run) -> tuple[str, ...]:
    """What failed in a run, short: letters and titles of bounds."""
    found = [letter for letter, one in run.report.invariants.items() if one.result.value == "fail"]
    return (*found, *(_short(one) for one in run.report.contract if one.result == "fail"))


def _short(one: Judged) -> str:
    return one.measure.removesuffix("_s").replace("_", " ")
