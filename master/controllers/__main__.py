"""`python3 -m master.controllers --config FILE`."""

from __future__ import annotations

import argparse
import sys

from labctl.kube import kubeconfig
from labctl.kube.leading import Component, Lead, lead
from labctl.kube.timing import PROFILES
from labctl.runtime import log
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop
from master.controllers import process
from master.controllers.config import Config, load
from master.controllers.loop import Informers, Surroundings
from master.controllers.protocol import Settings

_COMPONENT = Component(lease="kube-controller-manager", signs_as="kube-controller-manager")


def main() -> int:
    """Exit code 0 after SIGTERM, 1 where the lead was lost, 2 for a bad configuration."""
    parser = argparse.ArgumentParser(prog="master.controllers", description="The controller manager.")
    parser.add_argument("--config", required=True, help="controllers.json")
    parser.add_argument("-v", "--verbose", action="count", default=0)
    arguments = parser.parse_args()
    log.set_up(arguments.verbose)
    try:
        return _run(load(arguments.config))
    except LabError as error:
        print(f"{error}{f' ({error.hint})' if error.hint else ''}", file=sys.stderr)
        return error.exit_code


def _run(config: Config) -> int:
    profile, clock = PROFILES[config.profile], SystemClock()
    settings = Settings(
        profile=profile,
        cluster_cidr=config.cluster_cidr,
        node_cidr_mask=config.node_cidr_mask,
        root_ca=kubeconfig.load(config.kubeconfig).ca_pem,
        kinds=process.collectable(),
    )

    def work(leading: Lead, stop: Stop) -> None:
        informers = Informers(leading.client, clock)
        around = Surroundings(clock, informers, leading.recorder, settings, leading.election.steady_since_s)
        process.start(leading.client, around, stop)

    return lead(_COMPONENT, config.kubeconfig, profile, clock, work)


if __name__ == "__main__":
    sys.exit(main())
