"""What goes into a node's root file system: Debian packages, and the units a lab node does without.

Data only. Every unit masked here was seen to cost start-up time under emulation, and nothing on a node needs it.
"""

from __future__ import annotations

SUITE = "trixie"
KERNEL_PACKAGE = "linux-image-cloud-amd64"  # has sch_netem, overlay, br_netfilter, veth and vxlan as modules

PACKAGES = (
    # the machine
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "procps", "util-linux", "mount", "e2fsprogs", "netbase"),
    *("openssh-server", "openssh-sftp-server", "sudo", "ca-certificates", "less", "busybox-static"),
    # the network
    *("iproute2", "iputils-ping", "nftables", "iptables", "conntrack", "ethtool", "socat", "curl", "tcpdump"),
    # the cluster
    *("containerd", "runc", "containernetworking-plugins", "etcd-server", "etcd-client", "kubernetes-client"),
    "keepalived",  # the address that moves between several masters
    # Python, and what the control plane and the agents import; python3-apt is for Ansible's apt module
    *("python3", "python3-apt", "python3-msgspec", "python3-urllib3", "python3-flask", "python3-gunicorn"),
    *("gunicorn", "python3-gevent", "python3-psutil", "python3-yaml", "python3-jwt", "python3-cryptography"),
)

EXCLUDED_PATHS = (
    *("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/lintian/*"),
    *("/usr/share/bash-completion/*", "/usr/share/zsh/*", "/usr/share/perl5/*/pod/*"),
)

# Installed, but started by nobody until Ansible (or a person) enables them.
DISABLED_UNITS = (
    *("containerd.service", "etcd.service", "keepalived.service", "nftables.service"),
    "systemd-networkd-wait-online.service",
)

MASKED_UNITS = (
    # housekeeping of long-lived machines
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("e2scrub_reap.service", "fstrim.timer", "man-db.timer", "logrotate.timer", "systemd-tmpfiles-clean.timer"),
    # consoles and sessions: people come in by ssh
    *("getty@tty1.service", "getty-static.service", "serial-getty@ttyS0.service", "console-getty.service"),
    *("systemd-logind.service", "systemd-ask-password-console.path", "systemd-ask-password-wall.path"),
    *("systemd-user-sessions.service", "getty.target"),
    # device events: /dev is the kernel's devtmpfs, drivers are loaded on demand, and the network devices that
    # containers come and go with are nobody's business (udev would also change their MAC addresses)
    *("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udevd-control.socket"),
    *("systemd-udevd-kernel.socket", "systemd-udevd-varlink.socket", "kmod-static-nodes.service"),
    *("systemd-tmpfiles-setup-dev-early.service", "systemd-tmpfiles-setup-dev.service"),
    *("systemd-initctl.socket", "systemd-creds.socket"),
    # hardware a lab machine has not
    *("systemd-rfkill.socket", "systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service"),
    *("systemd-pcrextend.socket", "systemd-pcrlock.socket", "systemd-hibernate-clear.service"),
    *("systemd-pcrmachine.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service"),
    *("systemd-bsod.service", "modprobe@drm.service", "modprobe@efi_pstore.service", "modprobe@fuse.service"),
    *("modprobe@dm_mod.service", "modprobe@loop.service", "systemd-pstore.service", "systemd-backlight@.service"),
    # file systems nobody mounts here
    *("systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "sys-kernel-debug.mount"),
    *("sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount"),
    *("dev-hugepages.mount", "dev-mqueue.mount", "systemd-remount-fs.service", "systemd-fsck-root.service"),
    # first-boot work, done while the tree was built
    *("ldconfig.service", "systemd-journal-catalog-update.service", "systemd-update-done.service"),
    *("systemd-update-utmp.service", "systemd-machine-id-commit.service", "systemd-firstboot.service"),
    *("systemd-hwdb-update.service", "systemd-sysusers.service", "systemd-network-generator.service"),
    *("systemd-udev-load-credentials.service", "systemd-random-seed.service", "systemd-boot-random-seed.service"),
)

MASKED_GENERATORS = (
    *("systemd-ssh-generator", "systemd-tpm2-generator", "systemd-hibernate-resume-generator"),
    *("systemd-gpt-auto-generator", "systemd-cryptsetup-generator", "systemd-integritysetup-generator"),
    *("systemd-veritysetup-generator", "systemd-bless-boot-generator", "systemd-rc-local-generator"),
    *("systemd-run-generator", "systemd-system-update-generator", "systemd-getty-generator"),
    *("systemd-debug-generator", "systemd-sysv-generator", "systemd-import-generator"),
)
