"""The control plane: API server, scheduler, controller manager."""
