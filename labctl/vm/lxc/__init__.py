"""What the lxc provider is made of: its configuration file (pure), disks, network and control groups of this host."""
