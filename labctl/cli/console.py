"""What people see: phases with elapsed time, one spinner line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import msgspec
from rich.console import Console
from rich.status import Status
from rich.table import Table

from labctl.runtime.clock import Clock, SystemClock

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)


class ConsoleReporter:
    """A `labctl.vm.progress.Reporter` on standard error, so that standard output stays for results."""

    def __init__(self, clock: Clock | None = None, console: Console = ERR) -> None:
        self._clock, self._console = clock or SystemClock(), console
        self._start_s = self._clock.monotonic_s()
        self._status: Status | None = None
        self._title = ""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the work began."""
        return self._clock.monotonic_s() - self._start_s

    @contextlib.contextmanager
    def phase(self, title: str, *, until_s: float = 0.0) -> Iterator[None]:
        """See `Reporter`."""
        begin_s = self._clock.monotonic_s()
        self._title = f"{title} (at most {until_s:g} s)" if until_s else title
        done = False
        with self._spinner():
            try:
                yield
                done = True
            finally:
                took_s = self._clock.monotonic_s() - begin_s
                mark = "[green]✓[/]" if done else "[red]✗[/]"
                self._line(f"{mark} {title} [dim]({took_s:.1f} s)[/]")

    def event(self, node: str, text: str) -> None:
        """See `Reporter`."""
        self._line(f"  [cyan]{node:<8}[/] {text}" if node else f"  {text}")

    @contextlib.contextmanager
    def _spinner(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(f"{self._title} …") as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None

    def _line(self, text: str) -> None:
        self._console.print(f"[dim]{self.elapsed_s:6.1f}s[/] {text}")


def print_json(value: object) -> None:
    """Print `value` as indented JSON on standard output."""
    OUT.out(msgspec.json.format(msgspec.json.encode(value), indent=2).decode(), highlight=False)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as kubectl prints them: upper-case headers, no lines, as wide as needed."""
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header.upper(), no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(*row)
    # Or rich would cut every column down to the width of the terminal, 80 in a pipe: names that nobody can use.
    table.width = sum(max(len(row[at]) for row in (headers, *rows)) + 2 for at in range(len(headers)))
    OUT.print(table, no_wrap=True, crop=False)
