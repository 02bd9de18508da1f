"""What people see while a drill runs, and when it is over."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.judge import judge
from labctl.drills.live import Board, Lines, print_report, watching
from labctl.drills.records import Said
from labctl.drills.ui import Status
from labctl.kube.timing import FAST
from tests.unit.labctl.drills.drill_tales import ZERO, Tale


def plain() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=160, soft_wrap=True, highlight=False), out


def test_without_a_terminal_each_moment_is_a_line_with_its_seconds() -> None:
    console, out = plain()
    with watching(console) as ui:
        assert type(ui) is Lines
        ui.show(list(Tale().tell()))
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert "+4.20s  node worker1 Unknown (detected)" in lines
    assert "+0.00s  fault: cut the power of worker1" in lines
    assert lines[0] == "0.00s  phase: steady"


def test_markup_in_what_a_cluster_says_is_shown_as_it_is() -> None:
    console, out = plain()
    tale = Tale(more=[(1.0, Said(text="[bold]not markup[/nonsense]"))])
    Lines(console).show(list(tale.tell()))
    assert "[bold]not markup[/nonsense]" in out.getvalue()


def test_on_a_terminal_the_footer_tells_phase_nodes_endpoints_requests_and_what_is_awaited() -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    with watching(console) as ui:
        assert isinstance(ui, Board)
        ui.show([entry for entry in Tale().tell() if entry.t_s < ZERO + 5.0])
        ui.status(Status(ZERO + 5.0, "observe", ("Serving again, in full, due in 7 s",)))
        assert ui.live is not None
        ui.live.refresh()
    shown = out.getvalue()
    for words in (
        "observe   +5.00s", "worker1 Unknown", "worker2 Ready", "1 of 3 ready", "failed", "due in 7 s",
        "cut the power of worker1   for 5 s", "worker1 2/2 Ready", "worker2 1/1 Ready", "20/s,",
    ):  # fmt: skip
        assert words in shown


def test_the_footer_forgets_a_fault_that_is_healed_and_pods_that_are_gone() -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    board = Board(console)
    board.show([entry for entry in Tale().tell() if entry.t_s < ZERO + 12.0])
    out.truncate(0)
    console.print(board.footer(Status(ZERO + 12.0, "converge", ())))
    assert "cut the power of worker1   for 12 s" in out.getvalue()
    assert "worker1 0/2 Ready, 2 terminating" in out.getvalue()
    board.show([entry for entry in Tale().tell() if entry.t_s >= ZERO + 12.0])
    out.truncate(0)
    console.print(board.footer(Status(ZERO + 20.0, "judge", ())))
    shown = out.getvalue().rpartition("────")[2]
    assert "cut the power" not in shown
    assert "worker1 0/" not in shown
    assert "worker2 3/3 Ready" in shown


def test_a_footer_fits_a_narrow_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, width=40, force_terminal=True, color_system=None)
    board = Board(console)
    board.show(list(Tale().tell()))
    out.truncate(0)
    out.seek(0)
    console.print(board.footer(Status(ZERO + 5.0, "observe", ("x" * 200,))))
    assert max(len(line) for line in out.getvalue().splitlines()) <= 40


@pytest.mark.parametrize(("tale", "words"), [(Tale(), "pass"), (Tale(read=()), "contract violated")])
def test_the_closing_words_hold_verdict_figures_and_invariants(tale: Tale, words: str) -> None:
    console, out = plain()
    print_report(console, judge(tale.tell(), DRILL, FAST, run_dir="/labs/x"))
    shown = out.getvalue()
    assert words in shown
    assert "4.20 s  Node seen to be not Ready (at least 2.96, at most 5.50)" in shown
    assert "/labs/x/report.html" in shown
    assert all(f"  {letter}  " in shown for letter in "ABCDEF")
