"""SSH to one node (paramiko), always with deadlines. Filled in by the machines work."""
