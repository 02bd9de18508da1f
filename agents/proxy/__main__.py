"""`python3 -m agents.proxy --config FILE`."""

from __future__ import annotations

import argparse
import sys

from agents.proxy.config import load
from agents.proxy.sync import Proxy
from labctl.kube.client import Client
from labctl.runtime import log
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop
from labctl.runtime.shell import LocalShell


def main() -> int:
    """Exit code 0 after SIGTERM, 2 for a bad configuration."""
    parser = argparse.ArgumentParser(prog="agents.proxy", description="kube-proxy.")
    parser.add_argument("--config", required=True, help="proxy.json")
    parser.add_argument("-v", "--verbose", action="count", default=0)
    arguments = parser.parse_args()
    log.set_up(arguments.verbose)
    try:
        config = load(arguments.config)
        client = Client.from_kubeconfig(config.kubeconfig, user_agent="kube-proxy")
        stop = Stop().install()
        Proxy(config, client, LocalShell(), SystemClock()).run(stop)
    except LabError as error:
        print(f"{error}{f' ({error.hint})' if error.hint else ''}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
