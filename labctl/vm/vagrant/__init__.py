"""What the vagrant provider is made of: Vagrant itself, the storage pool, the lab's network, KVM or not, snapshots."""
