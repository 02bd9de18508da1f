"""What the vagrant provider is made of: Vagrant itself, the storage pool, the lab's network, KVM or not, snapshots."""

from __future__ import annotations

import logging

# On import python-vagrant warns where Vagrant is not installed: nothing to a lab of another provider, and `labctl
# doctor` says it better.
logging.getLogger("vagrant").setLevel(logging.ERROR)
