"""`python3 -m master.controllers --config FILE`."""

from __future__ import annotations

import argparse
import sys

from labctl.kube import component, kubeconfig
from labctl.kube.leading import Component, Lead, lead
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop
from master.controllers import process
from master.controllers.config import Config
from master.controllers.fence_client import FenceClient, nobody
from master.controllers.loop import Informers, Surroundings
from master.controllers.protocol import Settings

_COMPONENT = Component(lease="kube-controller-manager", signs_as="kube-controller-manager")


def main() -> int:
    """Exit code 0 after SIGTERM, 1 where the lead was lost, 2 for a bad configuration."""
    parser = argparse.ArgumentParser(prog="master.controllers", description="The controller manager.")
    return component.main(parser, _run)


def _run(options: argparse.Namespace) -> int:
    config, clock = component.load(options.config, Config), SystemClock()
    settings = Settings(
        profile=config.timing,
        cluster_cidr=config.cluster_cidr,
        node_cidr_mask=config.node_cidr_mask,
        root_ca=kubeconfig.load(config.kubeconfig).ca_pem,
        kinds=process.collectable(),
        fencing=config.fencing,
    )

    power_off = FenceClient(config.fence_agent).power_off if config.fence_agent else nobody

    def work(leading: Lead, stop: Stop) -> None:
        informers = Informers(leading.client, clock)
        around = Surroundings(clock, informers, leading.recorder, settings, leading.election.steady_since_s, power_off)
        process.start(leading.client, around, stop)

    return lead(_COMPONENT, config.kubeconfig, config.timing, clock, work)


if __name__ == "__main__":
    sys.exit(main())
