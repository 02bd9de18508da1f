"""The kubelet: runs the pods bound to its node and reports on both."""
