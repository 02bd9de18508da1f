"""What every handler may use, made once when the server starts."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.runtime.clock import Clock
from labctl.runtime.loop import Stop
from master.apiserver.admit import Chain
from master.apiserver.allocation import Allocation
from master.apiserver.audit import AuditLog
from master.apiserver.authz.authorizer import Authorizer
from master.apiserver.config import Config
from master.apiserver.metrics import Metrics
from master.apiserver.registry import Registry
from master.apiserver.startup import Startup
from master.apiserver.storage import Storage
from master.apiserver.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Context:
    """See the module."""

    config: Config
    clock: Clock
    stop: Stop
    registry: Registry
    storage: Storage
    admission: Chain
    allocation: Allocation
    authorizer: Authorizer
    tokens: Tokens
    audit: AuditLog
    metrics: Metrics
    startup: Startup
