"""`python3 -m master.scheduler --config FILE`."""

from __future__ import annotations

import argparse
import sys

from labctl.kube.leading import Component, Lead, lead
from labctl.kube.timing import PROFILES
from labctl.runtime import log
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop
from master.scheduler.config import Config, load
from master.scheduler.loop import Scheduler

_COMPONENT = Component(lease="kube-scheduler", signs_as="default-scheduler")


def main() -> int:
    """Exit code 0 after SIGTERM, 1 where the lead was lost, 2 for a bad configuration."""
    parser = argparse.ArgumentParser(prog="master.scheduler", description="The scheduler.")
    parser.add_argument("--config", required=True, help="scheduler.json")
    parser.add_argument("-v", "--verbose", action="count", default=0)
    arguments = parser.parse_args()
    log.set_up(arguments.verbose)
    try:
        return _run(load(arguments.config))
    except LabError as error:
        print(f"{error}{f' ({error.hint})' if error.hint else ''}", file=sys.stderr)
        return error.exit_code


def _run(config: Config) -> int:
    clock = SystemClock()

    def work(leading: Lead, stop: Stop) -> None:
        Scheduler(leading.client, leading.recorder, clock).start(stop)

    return lead(_COMPONENT, config.kubeconfig, PROFILES[config.profile], clock, work)


if __name__ == "__main__":
    sys.exit(main())
