"""`make bench`: run each `bench_*.py` beside this file, print its table, write bench/results/<name>.json.

Each exports `measure(options) -> Iterable[Figure]`. The exit code is 0 if everything ran: a missed bound is a result.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

import tests.bench
from tests.bench.figure import Figure

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results"
CONSOLE = Console(highlight=False)


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The benchmarks' options."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=")
    parser.add_argument("--only", action="append", choices=_names())
    parser.add_argument("--runs", type=int, default=5, help="how often a failover is repeated")
    parser.add_argument("--against", metavar="KUBECONFIG", help="load this API server instead of our own")
    return parser.parse_args(argv)


def main() -> None:
    """Run what was asked for."""
    options = parse_options()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in options.only or _names():
        CONSOLE.rule(name)
        figures = []
        for figure in importlib.import_module(f"tests.bench.bench_{name}").measure(options):
            CONSOLE.print(f"[dim]{figure.name}: {figure.value:.4g} {figure.unit}[/]")
            figures.append(figure)
        _show(figures)
        report = {"bench": name, "machine": _machine(), "commit": _commit(), "figures": figures}
        target = RESULTS / f"{name}.json"
        target.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
        CONSOLE.print(f"written to {target.relative_to(RESULTS.parents[1])}\n")


def _names() -> list[str]:
    modules = (info.name for info in pkgutil.iter_modules(tests.bench.__path__))
    return sorted(name.removeprefix("bench_") for name in modules if name.startswith("bench_"))


def _show(figures: Sequence[Figure]) -> None:
    table = Table("figure", "measured", "bound", "met")
    for figure in figures:
        sign = "≤" if figure.sense == "at_most" else "≥"
        bound = "" if figure.bound is None else f"{sign} {figure.bound:g} {figure.unit}"
        met = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[figure.met]
        table.add_row(figure.name, f"{figure.value:.4g} {figure.unit}", bound, met)
    CONSOLE.print(table)


def _machine() -> dict[str, object]:
    return {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
