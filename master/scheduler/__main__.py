"""`python3 -m master.scheduler --config FILE`."""

from __future__ import annotations

import argparse
import sys

from labctl.kube import component
from labctl.kube.leading import Component, Lead, lead
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop
from master.scheduler.config import Config
from master.scheduler.loop import Scheduler

_COMPONENT = Component(lease="kube-scheduler", signs_as="default-scheduler")


def main() -> int:
    """Exit code 0 after SIGTERM, 1 where the lead was lost, 2 for a bad configuration."""
    return component.main(argparse.ArgumentParser(prog="master.scheduler", description="The scheduler."), _run)


def _run(options: argparse.Namespace) -> int:
    config, clock = component.load(options.config, Config), SystemClock()

    def work(leading: Lead, stop: Stop) -> None:
        Scheduler(
            leading.client,
            leading.recorder,
            clock,
            default_constraints=config.default_constraints,
            percentage=config.percentage_of_nodes_to_score,
        ).start(stop)

    return lead(_COMPONENT, config.kubeconfig, config.timing, clock, work)


if __name__ == "__main__":
    sys.exit(main())
