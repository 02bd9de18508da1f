#!/bin/busybox sh
# The whole of the initial RAM disk's work: load the drivers of disk and network, set the machine's address,
# hand over to systemd. The stock initramfs takes eight seconds for this under emulation. The address is there
# before init runs, and nothing manages the device afterwards, so no daemon ever removes a pod's route from it.
# On the kernel's command line:
#   labctl.ip=ADDRESS/PREFIX   the machine's address, on eth0
#   labctl.gateway=ADDRESS     its default route; without one a node could not even send to a ClusterIP
#   labctl.grow                the disk is larger than the box's: grow the file system
#   labctl.probe               only say that the kernel runs, and power off
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
address='' gateway='' grow=''
for word in $($b cat /proc/cmdline); do
    case $word in
        labctl.ip=*) address=${word#*=} ;;
        labctl.gateway=*) gateway=${word#*=} ;;
        labctl.grow) grow=1 ;;
        labctl.probe) echo 'labctl: the kernel runs'; $b poweroff -f ;;
    esac
done
while read -r module; do $b insmod "/modules/$module"; done < /modules/order
if [ -n "$address" ]; then
    $b ip link set eth0 up
    $b ip address add "$address" broadcast + dev eth0
    [ -z "$gateway" ] || $b ip route add default via "$gateway"
    # Only so that Vagrant finds the address it reserved for this machine; the lease is never used.
    $b udhcpc -b -q -t 5 -T 1 -i eth0 -s /bin/true >/dev/null 2>&1 &
fi
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 400 ]; do $b usleep 25000; tries=$((tries + 1)); done
if ! $b mount -t ext4 -o rw,noatime /dev/vda /root; then
    echo 'labctl: the disk /dev/vda cannot be mounted'
    $b poweroff -f
fi
$b mount --move /proc /root/proc
$b mount --move /dev /root/dev
[ -z "$grow" ] || $b chroot /root resize2fs /dev/vda
exec $b switch_root /root /sbin/init
