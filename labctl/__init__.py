"""labctl: a failover lab of real virtual machines that speaks the Kubernetes API."""
