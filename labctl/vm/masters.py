"""What is done to a lab's masters beside bringing them up: backup, restore, replacement."""

from __future__ import annotations

from pathlib import Path

from labctl.runtime.errors import LabError, UsageError
from labctl.vm import health, pki
from labctl.vm.etcd import Etcd, Snapshot, checked
from labctl.vm.lab import Lab
from labctl.vm.progress import Reporter
from labctl.vm.state import write_atomically


def backup(lab: Lab, path: Path, reporter: Reporter) -> Snapshot:
    """Write a snapshot of the lab's etcd to `path`, whole or not at all. The lab goes on meanwhile."""
    with reporter.phase("backup"):
        data, told = Etcd(lab.site, lab.clock).backup(reporter.event)
        try:
            write_atomically(path, data)
        except OSError as error:
            raise LabError(
                f"{path}: {error.strerror}", hint="name a file in a folder that can be written to"
            ) from error
    return told


def restore(lab: Lab, path: Path, reporter: Reporter) -> None:
    """Bring the lab's API back to the snapshot in `path`; returns when it serves and all nodes are Ready.

    Pods that the snapshot does not know are stopped by their kubelets, as upstream; images and volumes stay.
    """
    try:
        data = checked(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="`labctl backup FILE` makes a backup") from error
    with lab.state.locked("restore"):
        with reporter.phase("machines"):
            lab.provider.up(lab.site, (), reporter.event)
        with reporter.phase("restore"):
            Etcd(lab.site, lab.clock).restore(data, reporter.event)
        lab.wait_ready(reporter, fresh=True)


def replace(lab: Lab, name: str, reporter: Reporter) -> None:
    """Make a master anew: another etcd member without data, other certificates. The lab goes on meanwhile."""
    master = lab.machine(name)
    if master.role != "master":
        raise UsageError(f"{name} is a worker", hint="drain it, then `labctl kubectl -- delete node` and `labctl up`")
    if len(lab.topology.masters) == 1:
        raise UsageError(
            f"{name} is the only master: nobody else has what its etcd knows",
            hint="`labctl backup FILE` and `labctl restore FILE` keep it and bring it back",
        )
    with lab.state.locked("master replace"):
        with reporter.phase("machines"):
            lab.provider.up(lab.site, (), reporter.event)
        with reporter.phase(f"take {name} out"):
            if not health.api_ready(lab.client):
                lab.wait_api(30.0)
            Etcd(lab.site, lab.clock).forget_data(master)
            pki.Pki(lab.state.dir, lab.clock).forget(master)
    lab.up(reporter, provision_again=True)
