"""`labctl sim`: the whole cluster in one process, on a fake clock, under faults drawn from a seed."""

from __future__ import annotations

import subprocess
import sys

import click

from labctl.runtime.errors import LabError

_NEEDS = ("flask", "gevent", "jwt")


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def sim(options: tuple[str, ...]) -> None:
    """Live simulated clusters under random faults; a broken promise ends it with a story, exit code 1.

    The real controllers, scheduler, kubelets and API server run in one process on a fake clock, each seed the same
    way every time. --help lists the options.
    """
    try:
        for name in _NEEDS:
            __import__(name)
    except ImportError as error:
        raise LabError(f"labctl sim needs {error.name}", hint="pip install 'labctl[master]'") from error
    sys.exit(subprocess.run([sys.executable, "-m", "labctl.sim", *options], check=False).returncode)


COMMANDS = (sim,)
