"""`python3 -m master.apiserver --config FILE`: serve the Kubernetes API."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()  # before anything else imports threading, socket or ssl

import argparse  # noqa: E402
import sys  # noqa: E402

from labctl.kube import component  # noqa: E402


def main() -> int:
    """Parse, load, serve until told to stop; exit code 2 for a bad configuration."""
    parser = argparse.ArgumentParser(prog="master.apiserver", description="The Kubernetes API server of a labctl lab.")
    parser.set_defaults(logging_format="json")
    return component.main(parser, _run)


def _run(options: argparse.Namespace) -> int:
    from master.apiserver.config import Config  # noqa: PLC0415
    from master.apiserver.server import Application  # noqa: PLC0415

    Application(component.load(options.config, Config)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
