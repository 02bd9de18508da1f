"""A drill as it happens: a live view on a terminal, plain lines with elapsed seconds anywhere else."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from labctl.drills.model import Report, Verdict
from labctl.drills.narrate import Moment, Narrator
from labctl.drills.records import Entry, FaultBegan, HealEnded, NodeSeen, PodSeen, Probed, SliceSeen, Started
from labctl.drills.report import HTML_NAME
from labctl.drills.ui import Status, Ui

_STYLES = {"fault": "bold red", "heal": "bold green", "node": "yellow", "endpoint": "cyan", "request": "magenta"}
_BARS = " ▁▂▃▄▅▆▇█"
_SPARK_S = 60
_CHIPS = {"pass": "black on green", "fail": "white on red", "unknown": "black on yellow"}
_VERDICTS = {Verdict.PASS: "pass", Verdict.VIOLATED: "fail", Verdict.NOT_HEALED: "fail"}


class Lines:
    """Prints each moment as a line: `+4.31s  node worker1 Unknown (detected)`; before the fault without a sign."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._narrator = Narrator()
        self._start_s: float | None = None
        self._zero_s: float | None = None

    def show(self, entries: Sequence[Entry]) -> None:
        """See `Ui`."""
        for entry in entries:
            if self._start_s is None or isinstance(entry.what, Started):
                self._start_s = entry.t_s
            if isinstance(entry.what, FaultBegan) and self._zero_s is None:
                self._zero_s = entry.t_s
            for moment in self._narrator.feed(entry):
                self._print(moment)

    def status(self, status: Status) -> None:
        """See `Ui`; lines need none."""

    def say(self, text: str) -> None:
        """See `Ui`."""
        self._console.print(f"{'':>9}  {escape(text)}")

    def since(self, at_s: float) -> str:
        """The time as people read it: from the fault once there is one, else from the start."""
        if self._zero_s is not None and at_s >= self._zero_s:
            return f"+{at_s - self._zero_s:.2f}s"
        return f"{at_s - (self._start_s or at_s):.2f}s"

    def _print(self, moment: Moment) -> None:
        if moment.kind == "phase":
            self._console.print(f"[dim]{self.since(moment.at_s):>9}  {escape(moment.text)}[/]")
            return
        style = _STYLES.get(moment.kind, "")
        words = f"[{style}]{escape(moment.text)}[/]" if style else escape(moment.text)
        self._console.print(f"[dim]{self.since(moment.at_s):>9}[/]  {words}")


class Board(Lines):
    """The same lines, and a live footer: phase, faults, nodes, pods, endpoints, requests, what is waited for."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._nodes: dict[str, NodeSeen] = {}
        self._slices: dict[str, int] = {}
        self._pods: dict[str, PodSeen] = {}
        self._faults: dict[str, float] = {}  # that last, and since when
        self._seconds: deque[tuple[int, int, int]] = deque(maxlen=_SPARK_S)  # (second, ok, failed)
        self._sent = self._failed = 0
        self.live: Live | None = None

    def show(self, entries: Sequence[Entry]) -> None:
        """See `Ui`."""
        super().show(entries)
        for entry in entries:
            match entry.what:
                case NodeSeen() as node:
                    self._nodes[node.name] = node
                case SliceSeen() as found if self._narrator.scene and self._narrator.scene.covers_slice(found):
                    self._slices[found.name] = sum(endpoint.ready for endpoint in found.endpoints)
                case PodSeen() as pod if self._narrator.scene and self._narrator.scene.covers(pod):
                    self._pods[pod.uid] = pod
                    if pod.event == "DELETED":
                        del self._pods[pod.uid]
                case FaultBegan(fault=fault):
                    self._faults[fault] = entry.t_s
                case HealEnded(ok=True):
                    self._faults.clear()
                case Probed() as probe:
                    self._count(probe)

    def status(self, status: Status) -> None:
        """See `Ui`."""
        if self.live is not None:
            self.live.update(self.footer(status))

    def _count(self, probe: Probed) -> None:
        second = int(probe.intended_s)
        self._sent += 1
        self._failed += not probe.ok
        for index in range(len(self._seconds) - 1, max(-1, len(self._seconds) - 4), -1):
            if self._seconds[index][0] == second:
                _, ok, failed = self._seconds[index]
                self._seconds[index] = (second, ok + probe.ok, failed + (not probe.ok))
                return
        self._seconds.append((second, int(probe.ok), int(not probe.ok)))

    def footer(self, status: Status) -> RenderableType:
        """What stands below the lines."""
        rows = [Text.assemble(("─" * 20, "dim")), Text.assemble(("phase     ", "dim"), (status.phase, "bold"))]
        rows[1].append(f"   {self.since(status.now_s)}", "cyan")
        rows += [
            Text.assemble(("fault     ", "dim"), (fault, "bold red"), (f"   for {status.now_s - since_s:.0f} s", "red"))
            for fault, since_s in self._faults.items()
        ]
        if self._nodes:
            rows.append(self._node_row())
        if self._pods:
            rows.append(self._pod_row())
        if self._slices and self._narrator.scene is not None:
            ready, wanted = sum(self._slices.values()), self._narrator.scene.replicas
            rows.append(
                Text.assemble(("endpoints ", "dim"), (f"{ready} of {wanted} ready", "" if ready >= wanted else "red"))
            )
        if self._sent:
            rows.append(self._request_row())
        rows += [Text.assemble(("waits for ", "dim"), text) for text in status.waiting[:4]]
        for row in rows:
            row.truncate(max(20, self._console.width - 1), overflow="ellipsis")
        return Group(*rows)

    def _node_row(self) -> Text:
        row = Text.assemble(("nodes     ", "dim"))
        for name, node in sorted(self._nodes.items()):
            state = {"True": "Ready", "False": "NotReady"}.get(node.ready, "Unknown")
            row.append(f"{name} ")
            row.append(state, "green" if node.ready == "True" else "bold red")
            row.append("   ")
        return row

    def _pod_row(self) -> Text:
        row = Text.assemble(("pods      ", "dim"))
        for node in sorted({pod.node for pod in self._pods.values()}):
            here = [pod for pod in self._pods.values() if pod.node == node]
            ready = sum(pod.ready and not pod.deleting for pod in here)
            row.append(f"{node or 'no node yet'} ")
            row.append(f"{ready}/{len(here)} Ready", "green" if ready == len(here) else "bold red")
            if ending := sum(pod.deleting for pod in here):
                row.append(f", {ending} terminating", "yellow")
            row.append("   ")
        return row

    def _request_row(self) -> Text:
        row = Text.assemble(("requests  ", "dim"), f"{self._rate()}/s, {self._sent} sent, ")
        row.append(f"{self._failed} failed", "red" if self._failed else "green")
        row.append("  ")
        most = max((ok + failed for _, ok, failed in self._seconds), default=1)
        for _, ok, failed in list(self._seconds)[-max(10, self._console.width - 52) :]:
            row.append(_BARS[round((ok + failed) / max(1, most) * 8)], "red" if failed else "green")
        return row

    def _rate(self) -> int:
        """Requests that were meant for the last full second."""
        full = list(self._seconds)[-2:-1] or list(self._seconds)
        return full[0][1] + full[0][2]


@contextmanager
def watching(console: Console) -> Iterator[Ui]:
    """The view that suits the console, live while the block lasts."""
    if not console.is_terminal:
        yield Lines(console)
        return
    board = Board(console)
    with _footer(console) as live:
        board.live = live
        yield board
        board.live = None


def _footer(console: Console) -> AbstractContextManager[Live]:
    return Live("", console=console, refresh_per_second=8, transient=True)


def print_report(console: Console, report: Report) -> None:
    """Verdict, figures and invariants, as a short closing table."""
    chip = _CHIPS[_VERDICTS.get(report.verdict, "unknown")]
    console.print()
    console.print(
        f"[{chip}] {report.verdict.value} [/]  {escape(report.drill)} on {escape(report.lab)} ({report.provider})"
    )
    for reason in report.reasons:
        console.print(f"  [red]•[/] {escape(reason)}")
    console.print()
    for one in report.contract:
        figure = "never" if one.measured_s is None else f"{one.measured_s:.2f} s"
        limits = [f"at least {one.lower_s:.2f}"] if one.lower_s is not None else []
        limits += [f"at most {one.upper_s:.2f}"] if one.upper_s is not None else []
        style = {"pass": "green", "fail": "red"}.get(one.result, "yellow")
        console.print(f"  [{style}]{figure:>9}[/]  {escape(one.title)} [dim]({', '.join(limits)})[/]")
    found = report.measures
    failed = f"[red]{found.requests_failed} failed[/]" if found.requests_failed else "none failed"
    console.print(f"  {found.requests_sent:>9}  requests sent, {failed}, {found.requests_slow} slow")
    console.print()
    wide = max((len(letter) for letter in report.invariants), default=1)
    for letter, finding in report.invariants.items():
        style = {"pass": "green", "fail": "red", "unknown": "yellow"}.get(finding.result.value, "dim")
        words = f"{escape(finding.title)}: {escape(finding.evidence)}"
        console.print(f"  {letter:<{wide}}  [{style}]{finding.result.value:<14}[/]  {words}")
    if report.run_dir:
        console.print(f"\n  the page: {escape(report.run_dir)}/{HTML_NAME}")
