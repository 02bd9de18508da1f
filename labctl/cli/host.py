"""Commands about this host: doctor, version."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version as distribution_version

import click

from labctl.cli.console import OUT, ConsoleReporter, print_json
from labctl.cli.context import output_option
from labctl.config import settings
from labctl.runtime.errors import LabError
from labctl.vm import doctor as examination
from labctl.vm.registry import provider_names

KUBERNETES_VERSION = "1.37"


@click.command()
@click.option("--provider", type=click.Choice(provider_names()), multiple=True, help="Only what this provider needs.")
@click.option("--fix", is_flag=True, help="Install what is missing (Debian and Ubuntu).")
@output_option
def doctor(provider: tuple[str, ...], fix: bool, output: str) -> None:
    """Check what this host needs for a lab, and say how to mend what it lacks."""
    names = provider or provider_names()
    if fix:
        examination.mend(names, ConsoleReporter())
    findings = examination.examine(names, settings())
    if output == "json":
        print_json(findings)
    else:
        for finding in findings:
            OUT.print(f"{'[green]✓[/]' if finding.ok else '[red]✗[/]'} {finding.what}")
            if not finding.ok:
                OUT.print(f"  [dim]→[/] {finding.mend}")
    if not all(finding.ok for finding in findings):
        raise LabError("this host is not ready", hint="`labctl doctor --fix` installs what packages can mend")


@click.command()
@output_option
def version(output: str) -> None:
    """Print what this is."""
    facts = {
        "labctl": distribution_version("labctl"),
        "kubernetes": KUBERNETES_VERSION,
        "python": platform.python_version(),
        "system": f"{platform.system()} {os.uname().release}",
    }
    if output == "json":
        print_json(facts)
    else:
        OUT.print(f"labctl {facts['labctl']} (serves the API of Kubernetes {facts['kubernetes']})")


COMMANDS = (doctor, version)
