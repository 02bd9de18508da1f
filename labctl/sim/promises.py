"""What must hold, by name. Every promise has a broken build in labctl/sim/mutants.py that breaks it."""

from __future__ import annotations

from enum import StrEnum


class Promise(StrEnum):
    """As a story calls it."""

    IDENTITY = "one container per StatefulSet identity"
    ONE_NODE = "no pod on two nodes"
    BOUND_ONCE = "nothing bound twice"
    CREATED_ONCE = "nothing created twice"
    LEADER = "only the leader writes"
    DURABLE = "no acknowledged write lost"
    BUDGETS = "budgets respected"
    QUOTAS = "quotas respected"
    SURGE = "rollouts within surge"
    AVAILABLE = "rollouts keep what must be available"
    NO_STUMBLE = "no part stumbles"
    SETTLES = "spec equals status once faults stop"
