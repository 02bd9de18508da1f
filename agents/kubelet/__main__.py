"""`python3 -m agents.kubelet --config FILE`: be a node of the cluster."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial

from labctl.runtime import log
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop


def main() -> int:
    """Parse, load, serve until told to stop; exit code 2 for a bad configuration."""
    parser = argparse.ArgumentParser(prog="agents.kubelet", description="The kubelet of a labctl lab.")
    parser.add_argument("--config", required=True, help="path of kubelet.json")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log more")
    options = parser.parse_args()
    log.set_up(options.verbose)
    try:
        serve(options.config)
    except LabError as error:
        print(f"error: {error}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    return 0


def serve(path: str) -> None:
    """Run the kubelet that `path` describes; containers run on when it ends."""
    from agents.kubelet import lease, node, stats, volumes  # noqa: PLC0415 - a wrong option is told without them
    from agents.kubelet.config import load  # noqa: PLC0415
    from agents.kubelet.nerdctl import NerdctlRuntime  # noqa: PLC0415
    from agents.kubelet.network import PodNetwork  # noqa: PLC0415
    from agents.kubelet.process import Kubelet, World  # noqa: PLC0415
    from labctl.kube.client import Client  # noqa: PLC0415
    from labctl.runtime.clock import SystemClock  # noqa: PLC0415
    from labctl.runtime.shell import LocalShell  # noqa: PLC0415

    config = load(path)
    shell, clock = LocalShell(), SystemClock()
    client = Client.from_kubeconfig(config.kubeconfig, user_agent="kubelet")
    heartbeat = Client.from_kubeconfig(
        config.kubeconfig, user_agent="kubelet-heartbeat", timeout_s=lease.deadline_s(config.timing), pool=1
    )
    network = PodNetwork(shell, clock)
    measure = partial(stats.machine, config.root_dir)
    room = node.allocatable(config, measure())
    place = volumes.Place(
        config.root_dir, node_ip=config.node_ip, node_cpu_milli=room["cpu"], node_memory_bytes=room["memory"]
    )
    world = World(
        runtime=NerdctlRuntime(shell, network, clock),
        volumes=volumes.NodeVolumes(client, shell, clock, place),
        measure=measure,
        clock=clock,
        use_pod_cidr=network.use,
    )
    Kubelet(config, client, heartbeat, world).run(Stop().install())
    sys.stderr.flush()
    os._exit(0)  # threads that wait for containers to stop are not waited for: the next kubelet takes that up


if __name__ == "__main__":
    sys.exit(main())
