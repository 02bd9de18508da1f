"""`python3 -m agents.proxy --config FILE`: carry a node's Services."""

from __future__ import annotations

import argparse
import sys

from labctl.runtime import log
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop
from labctl.runtime.shell import LocalShell


def main() -> int:
    """Parse, load, serve until told to stop; exit code 2 for a bad configuration."""
    parser = argparse.ArgumentParser(prog="agents.proxy", description="kube-proxy of a labctl lab.")
    parser.add_argument("--config", required=True, help="path of proxy.json")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log more")
    options = parser.parse_args()
    log.set_up(options.verbose)
    try:
        from agents.proxy.config import load  # noqa: PLC0415 - a wrong option is told without them
        from agents.proxy.netlink import LinuxKernel  # noqa: PLC0415
        from agents.proxy.sync import Network, Proxy  # noqa: PLC0415
        from labctl.kube.client import Client  # noqa: PLC0415

        config = load(options.config)
        client = Client.from_kubeconfig(config.kubeconfig, user_agent="kube-proxy")
        network = Network(config, LocalShell(), LinuxKernel())
        Proxy(config, client, network, SystemClock()).run(Stop().install())
    except LabError as error:
        print(f"error: {error}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
