"""`labctl sim`: live seeds, and tell the story of one that breaks a promise. Exit code 1 where one did."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.progress import track

from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError, UsageError
from labctl.sim import batch
from labctl.sim.batch import Result
from labctl.sim.faults import SORTS
from labctl.sim.mutants import MUTANTS
from labctl.sim.story import tell

OUT, ERR = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
_CLOCK = SystemClock()


def main() -> int:
    """Run; the exit code."""
    options = _parser().parse_args()
    batch.quiet()
    try:
        return _run(options)
    except LabError as error:
        ERR.print(f"labctl: {error}" + (f"\n  {error.hint}" if error.hint else ""), markup=False)
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    if options.list:
        _list()
        return 0
    chosen = tuple(name for name in (options.faults or "").split(",") if name)
    if wrong := [name for name in chosen if name not in SORTS]:
        raise UsageError(f"no fault is named {wrong[0]!r}", hint=f"there are: {', '.join(SORTS)}")
    if options.broken and options.broken not in MUTANTS:
        raise UsageError(f"no broken build is named {options.broken!r}", hint=f"there are: {', '.join(MUTANTS)}")
    if options.seed is not None:
        outcome = batch.smallest(options.seed, chosen=chosen, mutant=options.broken, small=not options.steps)
        if outcome.violation is not None or options.steps:
            OUT.print(tell(outcome), markup=False)
        if outcome.violation is None:
            OUT.print(f"seed {options.seed}: every promise was kept")
        return int(outcome.violation is not None)
    return _many(options, chosen)


def _many(options: argparse.Namespace, chosen: tuple[str, ...]) -> int:
    seeds = range(options.start, options.start + options.seeds)
    began_s, simulated_s = _CLOCK.monotonic_s(), 0.0
    results: Iterable[Result] = batch.many(seeds, jobs=options.jobs, chosen=chosen, mutant=options.broken)
    if ERR.is_terminal:
        results = track(results, description="seeds", total=len(seeds), console=ERR, transient=True)
    for result in results:
        simulated_s += result.simulated_s
        if result.violation is not None:
            ERR.print(f"seed {result.seed} breaks a promise; looking for the smallest story ...", markup=False)
            OUT.print(tell(batch.smallest(result.seed, chosen=chosen, mutant=options.broken)), markup=False)
            again = f"labctl sim --seed {result.seed}" + (f" --faults {options.faults}" if options.faults else "")
            OUT.print(again + (f" --break {options.broken}" if options.broken else ""), markup=False)
            return 1
    took_s = _CLOCK.monotonic_s() - began_s
    OUT.print(
        f"{len(seeds)} seeds kept every promise: {simulated_s / 3600:.1f} simulated hours in {took_s:.0f} s, "
        f"{3600 * len(seeds) / max(took_s, 0.001):,.0f} seeds an hour"
    )
    return 0


def _list() -> None:
    OUT.print("faults (--faults):", markup=False)
    for name, sort in SORTS.items():
        OUT.print(f"  {name:<14} {sort.words.format(target=sort.befalls, for_s=3.0, count=2)}", markup=False)
    OUT.print("broken builds (--break):", markup=False)
    for mutant in MUTANTS.values():
        OUT.print(f"  {mutant.name:<14} {mutant.words}; breaks: {mutant.breaks}", markup=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labctl sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to live (%(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="live this one alone")
    parser.add_argument(
        "--steps", action="store_true", help="with --seed: tell all that happens, also where all is well"
    )
    parser.add_argument("--faults", help="only these, with commas between; see --list")
    parser.add_argument("--break", dest="broken", default="", help="live a broken build, to see it caught; see --list")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once (%(default)s)")
    parser.add_argument("--list", action="store_true", help="list faults and broken builds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
