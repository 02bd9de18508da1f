"""Plans and suites of drills, for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from labctl.cli.console import print_table
from labctl.drills.contract import Bound
from labctl.drills.model import Verdict
from labctl.drills.plan import Plan
from labctl.drills.suite import SKIPPED, Suite


def print_plan(console: Console, plan: Plan) -> None:
    """What would happen, in the order in which it would."""
    console.print(f"[bold]{escape(plan.drill)}[/]: {escape(plan.title)}")
    console.print(f"on {escape(plan.lab)} ({plan.provider}), timers `{plan.profile}`. Nothing is touched: a dry run.\n")
    if plan.blocked:
        console.print("[red]steady state[/]  no: the drill would be refused now")
        for text in plan.blocked:
            console.print(f"  [red]•[/] {escape(text)}")
    else:
        console.print("[green]steady state[/]  yes: the drill could begin now")
    console.print(f"workload      {escape(plan.workload)}")
    console.print(f"load          {escape(plan.load)}")
    console.print(f"victims       {escape(', '.join(plan.victims)) or 'none'}\n")
    for number, strike in enumerate(plan.faults, start=1):
        console.print(f"  step {number:<2}     [red]{escape(strike.fault)}[/]")
        for text in strike.undo:
            console.print(f"    undo      [green]{escape(text)}[/]")
    console.print("              each undo is on disk before its fault; a process of its own heals if this one dies")
    for text in plan.cleanups:
        console.print(f"  at the end  {escape(text)}")
    console.print("\nmeasured from the fault on, and judged:")
    for bound in plan.bounds:
        console.print(f"  {_limits(bound):<28}  {escape(bound.title)} [dim]({escape(bound.source)})[/]")
    console.print("checked:")
    for letter, title in plan.checks.items():
        console.print(f"  {letter}  {escape(title)}")


def _limits(bound: Bound) -> str:
    limits = [f"at least {bound.lower_s:.2f} s"] if bound.lower_s is not None else []
    limits += [f"at most {bound.upper_s:.2f} s"] if bound.upper_s is not None else []
    return ", ".join(limits) or "no bound"


def print_suite(console: Console, suite: Suite) -> None:
    """A row a drill, and a line that sums up."""
    console.print()
    rows = []
    for one in suite.ran:
        style = {Verdict.PASS.value: "green", SKIPPED: "dim"}.get(one.outcome, "red")
        why = one.reasons[0] if one.reasons else ""
        rows.append((one.drill, f"[{style}]{one.outcome}[/]", f"{one.seconds:.1f} s", escape(why)))
    print_table(("drill", "outcome", "took", "why"), rows)
    passed = sum(one.outcome == Verdict.PASS for one in suite.ran)
    skipped = sum(one.outcome == SKIPPED for one in suite.ran)
    wrong = len(suite.ran) - passed - skipped
    told = f"{passed} passed, {wrong} did not, {skipped} cannot run here; the order came from --seed {suite.seed}"
    console.print(f"\n{told}" + (f"; interrupted before {', '.join(suite.left)}" if suite.left else ""))
    if suite.trouble:
        console.print(f"[red]•[/] {escape(suite.trouble)}")
