"""`python3 -m agents.kubelet --config FILE`: be a node of the cluster."""

from __future__ import annotations

import argparse
import os
import sys

from labctl.kube import component
from labctl.runtime.loop import Stop


def main() -> int:
    """Parse, load, serve until told to stop; exit code 2 for a bad configuration. Containers run on."""
    parser = argparse.ArgumentParser(prog="agents.kubelet", description="The kubelet of a labctl lab.")
    parser.add_argument("--places", help="JSON file with other places than Debian's for containerd, CNI and logs")
    return component.main(parser, _run)


def _run(options: argparse.Namespace) -> int:
    from agents.kubelet import assembly  # noqa: PLC0415 - a wrong option is told without them
    from agents.kubelet.config import Config  # noqa: PLC0415

    places = assembly.load_places(options.places) if options.places else assembly.Places()
    assembly.assemble(component.load(options.config, Config), places).run(Stop().install())
    sys.stderr.flush()
    os._exit(0)  # threads that wait for containers to stop are not waited for: the next kubelet takes that up


if __name__ == "__main__":
    sys.exit(main())
