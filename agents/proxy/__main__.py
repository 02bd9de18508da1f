"""`python3 -m agents.proxy --config FILE`: carry a node's Services."""

from __future__ import annotations

import argparse
import sys

from labctl.kube import component
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop
from labctl.runtime.shell import LocalShell


def main() -> int:
    """Parse, load, serve until told to stop; exit code 2 for a bad configuration."""
    parser = argparse.ArgumentParser(prog="agents.proxy", description="kube-proxy of a labctl lab.")
    return component.main(parser, _run)


def _run(options: argparse.Namespace) -> int:
    from agents.proxy.config import Config  # noqa: PLC0415 - a wrong option is told without them
    from agents.proxy.netlink import LinuxKernel  # noqa: PLC0415
    from agents.proxy.sync import Network, Proxy  # noqa: PLC0415
    from labctl.kube.client import Client  # noqa: PLC0415

    config = component.load(options.config, Config)
    client = Client.from_kubeconfig(config.kubeconfig, user_agent="kube-proxy")
    network = Network(config, LocalShell(), LinuxKernel())
    Proxy(config, client, network, SystemClock()).run(Stop().install())
    return 0


if __name__ == "__main__":
    sys.exit(main())
