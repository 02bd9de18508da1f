"""The command line: parse, call, print. Exit codes: 0 done, 1 failed, 2 misused, 130 interrupted."""

from __future__ import annotations

import sys

import click

from labctl.cli import box, drill, host, lab, masters, report, sim, snapshot
from labctl.cli.console import ERR
from labctl.cli.context import Group
from labctl.runtime.errors import LabError
from labctl.runtime.log import set_up


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, envvar="LABCTL_DEBUG", help="Show tracebacks and every command run.")
def cli(debug: bool) -> None:
    """A failover lab of real machines that speaks the Kubernetes API.

    `labctl up` brings a cluster up, `labctl drill run worker-power-loss` cuts a worker's power and proves what the
    cluster did about it, `labctl destroy` leaves nothing behind.
    """
    set_up(int(debug))


for module in (lab, snapshot, masters, drill, sim, report, box, host):
    for command in module.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """Run; every error raised on purpose becomes one line that says what is wrong and how to mend it."""
    debug = "--debug" in sys.argv
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Abort:
        _interrupted()
    except KeyboardInterrupt:
        _interrupted()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except LabError as error:
        if debug:
            raise
        ERR.print(f"[bold red]labctl:[/] {error}", markup=True)
        if error.hint:
            ERR.print(f"  [dim]→[/] {error.hint}")
        sys.exit(error.exit_code)


def _interrupted() -> None:
    ERR.print("labctl: interrupted; the same command goes on where it stopped, `labctl destroy` removes everything")
    sys.exit(130)
