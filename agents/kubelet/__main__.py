"""`python3 -m agents.kubelet --config FILE`: be a node of the cluster."""

from __future__ import annotations

import argparse
import os
import sys

from labctl.runtime import log
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop


def main() -> int:
    """Parse, load, serve until told to stop; exit code 2 for a bad configuration. Containers run on."""
    parser = argparse.ArgumentParser(prog="agents.kubelet", description="The kubelet of a labctl lab.")
    parser.add_argument("--config", required=True, help="path of kubelet.json")
    parser.add_argument("--places", help="JSON file with other places than Debian's for containerd, CNI and logs")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log more")
    options = parser.parse_args()
    log.set_up(options.verbose)
    try:
        from agents.kubelet import assembly, config  # noqa: PLC0415 - a wrong option is told without them

        places = assembly.load_places(options.places) if options.places else assembly.Places()
        assembly.assemble(config.load(options.config), places).run(Stop().install())
    except LabError as error:
        print(f"error: {error}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    sys.stderr.flush()
    os._exit(0)  # threads that wait for containers to stop are not waited for: the next kubelet takes that up


if __name__ == "__main__":
    sys.exit(main())
