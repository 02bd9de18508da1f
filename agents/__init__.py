"""What runs on a worker: kubelet and kube-proxy."""
