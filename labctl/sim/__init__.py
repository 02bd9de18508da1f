"""The whole cluster in one process, on a fake clock, from a seed: the one place that imports master and agents."""
