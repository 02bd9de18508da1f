"""kube-proxy: keeps a node's Services as nftables rules, and its routes to the other nodes' pods."""
