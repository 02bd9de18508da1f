"""`python3 -m master.apiserver --config FILE`: serve the Kubernetes API."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()  # before anything else imports threading, socket or ssl

import argparse  # noqa: E402
import sys  # noqa: E402

from labctl.runtime import log  # noqa: E402
from labctl.runtime.errors import LabError  # noqa: E402


def main() -> int:
    """Parse, load, serve until told to stop; exit code 2 for a bad configuration."""
    parser = argparse.ArgumentParser(prog="master.apiserver", description="The Kubernetes API server of a labctl lab.")
    parser.add_argument("--config", required=True, help="path of apiserver.json")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log every request")
    options = parser.parse_args()
    log.set_up(options.verbose)
    try:
        from master.apiserver.config import load  # noqa: PLC0415
        from master.apiserver.server import Application  # noqa: PLC0415

        Application(load(options.config)).run()
    except LabError as error:
        print(f"error: {error}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
