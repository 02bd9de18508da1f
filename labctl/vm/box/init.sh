#!/bin/busybox sh
# The whole of the initial RAM disk's work: load the drivers of disk and network, set the machine's address
# (labctl.ip=ADDRESS/PREFIX on the kernel's command line), hand over to systemd. The stock initramfs takes
# eight seconds for this under emulation. The address is there before init runs, and nothing on the machine
# manages the device afterwards, so no daemon ever removes a pod's route from it.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
address=
for word in $($b cat /proc/cmdline); do
    case $word in labctl.ip=*) address=${word#labctl.ip=} ;; esac
done
while read -r module; do $b insmod "/modules/$module"; done < /modules/order
if [ -n "$address" ]; then
    $b ip link set eth0 up
    $b ip address add "$address" broadcast + dev eth0
    # Only so that Vagrant finds the address it reserved for this machine; the lease is never used.
    $b udhcpc -b -q -t 5 -T 1 -i eth0 -s /bin/true >/dev/null 2>&1 &
fi
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 400 ]; do $b usleep 25000; tries=$((tries + 1)); done
if ! $b mount -t ext4 -o rw,noatime /dev/vda /root; then
    echo 'labctl: the disk /dev/vda cannot be mounted'
    $b poweroff -f
fi
$b umount /proc
$b mount --move /dev /root/dev
exec $b switch_root /root /sbin/init
