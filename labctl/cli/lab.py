"""Commands of a lab's life: up, status, ssh, logs, kubeconfig, kubectl, image, halt, destroy."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from labctl import config as lab_config
from labctl.cli.console import OUT, ConsoleReporter, print_json, print_table
from labctl.cli.context import default_name, name_option, node_argument, open_lab, output_option
from labctl.config import settings
from labctl.kube.timing import FAST, PROFILES
from labctl.runtime.errors import LabError, UsageError
from labctl.vm import box, images
from labctl.vm.lab import Lab
from labctl.vm.registry import provider_names

_UNITS = {
    "apiserver": "labctl-apiserver",
    "scheduler": "labctl-scheduler",
    "controllers": "labctl-controllers",
    "kubelet": "labctl-kubelet",
    "proxy": "labctl-proxy",
    "etcd": "etcd",
    "containerd": "containerd",
}


@click.command()
@click.option("--provider", type=click.Choice(provider_names()), help="What makes the machines (default: vagrant).")
@click.option("--masters", type=int, help="How many masters (default: 1).")
@click.option("--workers", type=int, help="How many workers (default: 2).")
@click.option("--profile", type=click.Choice(list(PROFILES)), help="Timers: scaled down, or Kubernetes' own.")
@click.option("--file", "-f", "path", type=click.Path(path_type=Path), help="A lab.yaml (default: the one here).")
@click.option("--provision", is_flag=True, help="Run the playbooks even where nothing changed.")
@name_option
def up(
    provider: str | None,
    masters: int | None,
    workers: int | None,
    profile: str | None,
    path: Path | None,
    provision: bool,
    name: str | None,
) -> None:
    """Bring a lab up, or go on where a half-finished one stopped."""
    wish = lab_config.load(path).merged(
        name=name, provider=provider, masters=masters, workers=workers, profile=profile
    )  # fmt: skip
    lab = Lab.wanted(settings(), lab_config.check(wish), default_name())
    topology = lab.topology
    reporter = ConsoleReporter()
    sizes = f"{len(topology.masters)} master(s), {len(topology.workers)} worker(s)"
    reporter.event("", f"lab [bold]{topology.lab}[/]: {sizes}")
    reporter.event("", f"{topology.provider}: {lab.provider.describe()}")
    reporter.event("", f"network {topology.network_cidr}, timers `{topology.profile}`")
    if lab.overloads_host and topology.profile == FAST.name:
        reporter.event(
            "", "several emulated masters may be too slow for these timers: `--profile kubernetes` suits them"
        )
    lab.up(reporter, provision_again=provision)
    reporter.event("", f"[bold green]up[/] in {reporter.elapsed_s:.1f} s")
    flag = "" if topology.lab == default_name() else f" --name {topology.lab}"
    for command, what in (
        (f"labctl kubectl{flag} -- get nodes -o wide", "the cluster, by kubectl"),
        (f"labctl ssh{flag} {topology.machines[-1].name}", "onto a node"),
        (f"labctl drill run{flag} worker-power-loss", "cut a worker's power and watch"),
        (f"labctl halt{flag}", "shut down; `labctl up` brings the same lab back"),
    ):
        OUT.print(f"  [bold]{command:<46}[/] [dim]{what}[/]")


@click.command()
@name_option
@output_option
def status(name: str | None, output: str) -> None:
    """Show machines, their power, and what the API says of them."""
    found = open_lab(name).status()
    if output == "json":
        print_json(found)
        return
    OUT.print(f"lab {found.name}: {found.provider}, timers `{found.profile}`, network {found.network}, API {found.api}")
    rows = [(node.name, node.role, node.address, node.power, node.ready or "-") for node in found.nodes]
    print_table(("name", "role", "address", "power", "ready"), rows)
    for sentence in found.waits:
        OUT.print(f"waits for {sentence}", highlight=False)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@node_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str | None, node: str, command: tuple[str, ...]) -> None:
    """Open a shell on NODE, or run COMMAND there and pass on its exit code: `labctl ssh worker1 -- nerdctl ps`."""
    words = command[1:] if command[:1] == ("--",) else command
    with open_lab(name).ssh(node) as connection:
        sys.exit(connection.interact(" ".join(words)))


@click.command()
@name_option
@node_argument
@click.argument("component", required=False, type=click.Choice(list(_UNITS)))
@click.option("--follow", "-f", is_flag=True, help="Go on as lines arrive.")
@click.option("--lines", type=int, default=200, show_default=True, help="How many of the last lines.")
def logs(name: str | None, node: str, component: str | None, follow: bool, lines: int) -> None:
    """Show the journal of NODE, of one COMPONENT or all of them."""
    units = [_UNITS[component]] if component else list(_UNITS.values())
    words = ["journalctl", "--no-pager", f"--lines={lines}", "--output=short-iso-precise"]
    words += [f"--unit={unit}" for unit in units] + (["--follow"] if follow else [])
    with open_lab(name).ssh(node) as connection:
        sys.exit(connection.interact(" ".join(words)))


@click.command()
@name_option
@click.option("--path", "only_path", is_flag=True, help="Print where the file is, for KUBECONFIG.")
def kubeconfig(name: str | None, only_path: bool) -> None:
    """Print the admin's kubeconfig."""
    lab = open_lab(name)
    if not lab.kubeconfig.exists():
        raise LabError(f"lab {lab.topology.lab!r} has no kubeconfig yet", hint="`labctl up` finishes the lab")
    OUT.out(str(lab.kubeconfig) if only_path else lab.kubeconfig.read_text().rstrip(), highlight=False)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def kubectl(name: str | None, args: tuple[str, ...]) -> None:
    """Run kubectl against the lab: `labctl kubectl -- get pods -o wide -w`."""
    lab = open_lab(name)
    program = shutil.which("kubectl") or box.kubectl(lab.settings.cache_dir)
    if program is None:
        raise LabError("kubectl not found", hint="`labctl box build` unpacks one, or put your own on PATH")
    os.environ["KUBECONFIG"] = str(lab.kubeconfig)
    os.execv(program, ["kubectl", *args])  # noqa: S606 - becomes kubectl: its terminal, signals and exit code


@click.group()
def image() -> None:
    """Bring images onto the nodes; the lab needs no registry."""


@image.command("load")
@name_option
@click.argument("images_", metavar="IMAGE...", nargs=-1, required=True)
def image_load(name: str | None, images_: tuple[str, ...]) -> None:
    """Load docker archives, or images that labctl builds itself (lab.local/web:1), on each worker."""
    lab = open_lab(name)
    archives = {}
    for wanted in images_:
        path = Path(wanted)
        if path.is_file():
            archives[path.name] = path.read_bytes()
        elif wanted in images.NAMES:
            archives[wanted] = images.build(wanted, lab.settings.cache_dir)
        else:
            raise UsageError(
                f"{wanted}: neither a file nor an image that labctl builds",
                hint=f"`docker save` writes an archive; built in are {', '.join(images.NAMES)}",
            )
    workers = lab.running("worker")
    if not workers:
        raise LabError(f"no worker of lab {lab.topology.lab!r} is running", hint="`labctl up` starts them")
    reporter = ConsoleReporter()
    for title, archive in archives.items():
        with reporter.phase(f"load {title}"):
            lab.load_image(archive, workers, reporter.event)


@click.command()
@name_option
def halt(name: str | None) -> None:
    """Shut the machines down; `labctl up` brings the same ones back."""
    open_lab(name).halt(ConsoleReporter())


@click.command()
@name_option
@click.option("--if-exists", is_flag=True, help="No error where there is no such lab.")
def destroy(name: str | None, if_exists: bool) -> None:
    """Remove a lab: machines, disks, networks, state."""
    try:
        lab = open_lab(name)
    except UsageError:
        if if_exists:
            return
        raise
    lab.destroy(ConsoleReporter())


COMMANDS = (up, status, ssh, logs, kubeconfig, kubectl, image, halt, destroy)
