"""Where objects live: the protocol, etcd behind it, and a memory store with the same contract."""
