#!/bin/sh
# Run by mmdebstrap once the packages are in, with the new tree as $1. Nothing here belongs to one lab or
# one machine: keys, names and addresses come when a machine is made.
# Reads from the environment: KERNEL_PACKAGE, NERDCTL, ROLES, DISABLED_UNITS, MASKED_UNITS, MASKED_GENERATORS.
set -eu
tree=$1

kernel() { # the package's files alone: machines boot it directly, so no initramfs-tools and no boot loader
    pool=$tree/var/tmp/kernel
    mkdir -p "$pool"
    name=$(APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-cache depends "$KERNEL_PACKAGE" | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1)
    [ -n "$name" ] || { echo "no kernel found behind $KERNEL_PACKAGE" >&2; exit 1; }
    (cd "$pool" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q download -o APT::Sandbox::User=root "$name")
    dpkg-deb --extract "$pool"/*.deb "$pool"
    rm -f "$pool"/*.deb
    for unused in gpu infiniband hid usb input media sound scsi ata hv nvme; do
        rm -rf "$pool"/lib/modules/*/kernel/drivers/$unused "$pool"/usr/lib/modules/*/kernel/drivers/$unused
    done
    for folder in "$pool"/lib/modules "$pool"/usr/lib/modules; do
        [ ! -d "$folder" ] || { mkdir -p "$tree/usr/lib/modules" && cp -a "$folder"/. "$tree/usr/lib/modules/"; }
    done
    mkdir -p "$tree/boot"
    cp "$pool"/boot/vmlinuz-* "$tree/boot/vmlinuz"
    rm -rf "$pool"
    find "$tree/usr/lib/modules" -name '*.ko.xz' -exec unxz {} + # loading one is ten times faster than unpacking it first
    chroot "$tree" depmod "$(ls "$tree/usr/lib/modules")"
}

sshd() { # keys only; a machine makes its own host key when it first starts
    rm -f "$tree"/etc/ssh/ssh_host_*
    cat > "$tree/etc/ssh/sshd_config.d/labctl.conf" <<-'END'
	HostKey /etc/ssh/ssh_host_ed25519_key
	PermitRootLogin prohibit-password
	PasswordAuthentication no
	KbdInteractiveAuthentication no
	UsePAM no
	UseDNS no
	GSSAPIAuthentication no
	PrintMotd no
	PrintLastLog no
	X11Forwarding no
	MaxSessions 100
	MaxStartups 100:30:200
	ClientAliveInterval 15
	ClientAliveCountMax 4
	END
    mkdir -p "$tree/etc/systemd/system/sshd-keygen.service.d"
    cat > "$tree/etc/systemd/system/sshd-keygen.service.d/labctl.conf" <<-'END'
	# One key of the cheap kind: the stock unit also makes an RSA key, which takes ten seconds under emulation.
	[Unit]
	ConditionFirstBoot=
	ConditionFileNotEmpty=!/etc/ssh/ssh_host_ed25519_key
	[Service]
	ExecStart=
	ExecStart=rm -f /etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_ed25519_key.pub
	ExecStart=ssh-keygen -q -t ed25519 -N "" -C "" -f /etc/ssh/ssh_host_ed25519_key
	# On disk before sshd shows it: a machine whose power is cut right after its first boot keeps its key.
	ExecStart=sync /etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_ed25519_key.pub /etc/ssh
	END
    install -d -m 700 "$tree/root/.ssh"
}

systemd() {
    chroot "$tree" systemctl -q set-default multi-user.target
    chroot "$tree" systemctl -q enable ssh.service
    for unit in $DISABLED_UNITS; do chroot "$tree" systemctl -q disable "$unit" 2>/dev/null || true; done
    for unit in $MASKED_UNITS; do ln -sf /dev/null "$tree/etc/systemd/system/$unit"; done
    mkdir -p "$tree/etc/systemd/system-generators" "$tree/etc/systemd/system.conf.d"
    for generator in $MASKED_GENERATORS; do ln -sf /dev/null "$tree/etc/systemd/system-generators/$generator"; done
    # Generous, because an emulated machine is ten times slower.
    printf '[Manager]\nDefaultTimeoutStartSec=300s\nDefaultDeviceTimeoutSec=300s\nDefaultTimeoutStopSec=30s\n' \
        > "$tree/etc/systemd/system.conf.d/labctl.conf"
}

roles() { # what they put onto every node alike; it takes effect with the first boot, without a restart of anything
    for files in "$ROLES"/*/files; do cp -r --no-preserve=mode,ownership -T "$files" "$tree"; done
}

identity() { # none: no password opens it, and name and machine-id come with each machine
    chroot "$tree" usermod -p '*' root
    : > "$tree/etc/machine-id"
    rm -f "$tree/var/lib/dbus/machine-id" "$tree/etc/hostname"
    printf '127.0.0.1 localhost\n::1 localhost\n' > "$tree/etc/hosts"
    : > "$tree/etc/resolv.conf"
}

python() { # compiled once here rather than at every first start
    chroot "$tree" python3 -c '
import compileall, sys, sysconfig
for folder in (sysconfig.get_path("stdlib"), "/usr/lib/python3/dist-packages"):
    compileall.compile_dir(folder, quiet=2, maxlevels=12)
'
}

kernel
sshd
systemd
roles
identity
python
install -D -m 755 "$NERDCTL" "$tree/usr/local/bin/nerdctl"
: > "$tree/etc/fstab" # the initial RAM disk mounts the only file system there is
rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/var/log/*.log "$tree"/var/log/apt "$tree"/tmp/*
mkdir -p "$tree/var/cache/apt/archives/partial" "$tree/var/lib/apt/lists/partial"
rm -rf "$tree/usr/lib/python3.13/test" "$tree/usr/lib/python3.13/idlelib"
touch "$tree/etc/.updated" "$tree/var/.updated"
