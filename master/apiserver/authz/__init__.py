"""Who may do what: RBAC from the watch caches, the node authorizer, and what a refusal says."""
