"""The scheduler: a frozen snapshot, a pure cycle of plugins over it, a thin binder."""
