module nerdctl-build

go 1.24.3

require github.com/containerd/nerdctl/v2 v2.0.3
