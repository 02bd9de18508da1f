"""Programs of this host that labctl runs: which are missing, and the Debian packages that bring them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

from labctl.vm.provider import Problem

# To reach and provision machines of any provider.
EVERYWHERE = {"ssh": "openssh-client", "setpriv": "util-linux"}


def absent(tools: Mapping[str, str]) -> Mapping[str, str]:
    """Those of `tools` (program: package) that are not on PATH."""
    return {tool: package for tool, package in tools.items() if shutil.which(tool) is None}


def problems(missing: Mapping[str, str]) -> Sequence[Problem]:
    """One problem that names all that is `missing` (program: package); none where nothing is."""
    if not missing:
        return ()
    packages = tuple(sorted(set(missing.values())))
    return (Problem(f"{', '.join(missing)} not found", f"apt-get install {' '.join(packages)}", packages),)
