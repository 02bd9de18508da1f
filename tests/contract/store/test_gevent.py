"""The API server runs under gevent: the store's contract holds there too, threads and sockets being greenlets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
UNDER_GEVENT = "from gevent import monkey; monkey.patch_all(); import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
FAULTS = "kill or cut or frozen or freeze or next_endpoint or answer_was_lost"


@pytest.mark.etcd
@pytest.mark.parametrize(
    "selection",
    [("test_keys.py", "etcd or tls"), ("test_watches.py", "etcd or tls"), ("test_etcd_faults.py", FAULTS)],
    ids=["keys", "watches", "faults"],
)
def test_the_contract_holds_under_gevent(selection: tuple[str, str]) -> None:
    name, chosen = selection
    done = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT, "-q", "-p", "no:cacheprovider", str(HERE / name), "-k", chosen],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=HERE.parents[2],
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
