"""The machines: topology, box, providers, certificates, provisioning."""
