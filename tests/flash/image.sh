#!/bin/bash
# image.sh ROOTFS OUT cloud-init|firstrun: an image like Raspberry Pi OS', from what rootfs.sh fetched: MBR, FAT32 with kernel and settings, ext4 with Debian. No mounts,
# no loop devices. QEMU has no Raspberry Pi firmware, so whoever boots it takes kernel, first file system and command line out of the FAT partition.
set -euo pipefail
rootfs=$1 out=$2 kind=$3
boot_mib=160 root_mib=860
work=$(mktemp -d "${out%/*}/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

dpkg-deb -x "$rootfs/linux.deb" "$work/kernel"
dpkg-deb -x "$rootfs/busybox.deb" "$work/busybox"
version=$(ls "$work/kernel/lib/modules")

# The first file system: busybox and what is needed to reach the root; what it loads stays loaded.
first=$work/first modules=$work/first/lib/modules/$version
mkdir -p "$first"/{bin,dev,proc,sys,root} "$modules"
cp "$work/busybox/bin/busybox" "$first/bin/"
cp "$(dirname "$0")/init" "$first/init"; chmod 755 "$first/init"
depmod -b "$work/kernel" "$version"
for module in virtio_mmio virtio_blk virtio_net virtio_rng ext4 vfat nls_cp437 nls_ascii nls_utf8 crc32c_generic autofs4; do
  modprobe -S "$version" -d "$work/kernel" --show-depends --ignore-install "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }' || true
done | awk '!seen[$0]++' | while read -r file; do
  inside=${file#*"/lib/modules/$version/"}
  install -D -m644 "$file" "$modules/$inside"
  echo "/lib/modules/$version/$inside" >> "$first/modules"
done
(cd "$first" && find . | cpio -o -H newc --quiet --owner=0:0 | gzip -1) > "$work/initramfs8"

mkdir "$work/root"
tar -xf "$rootfs/rootfs.tar" -C "$work/root" --exclude='./dev/*'
root=$work/root
mkdir -p "$root/boot/firmware" "$root/etc/cloud/cloud.cfg.d"
printf 'LABEL=rootfs / ext4 defaults,noatime 0 1\nLABEL=bootfs /boot/firmware vfat defaults,x-systemd.device-timeout=900 0 2\n' > "$root/etc/fstab"
ln -sf /lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
cp "$(dirname "$0")/raspberry-pi.cfg" "$root/etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg"
# To make a locale takes an emulated machine minutes. (`locale: false` would spare them too; but Debian 12's cloud-init, which obeys it, finds it invalid
# by its own schema, and warns at each boot.)
if ! grep -q '^ - locale$' "$root/etc/cloud/cloud.cfg"; then echo "image.sh: cloud.cfg lists no module locale as it did" >&2; exit 1; fi
sed -i '/^ - locale$/d' "$root/etc/cloud/cloud.cfg"
# These wait long for what an emulated machine has not.
for unit in systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service wpa_supplicant.service; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
if [ "$kind" = firstrun ]; then
  touch "$root/etc/cloud/cloud-init.disabled"
  mkdir -p "$root/etc/NetworkManager"
  printf '[Match]\nName=eth0\n[Network]\nDHCP=yes\n' > "$root/etc/systemd/network/10-eth0.network"
fi

rm -f "$out"
truncate -s $((1 + boot_mib + root_mib + 3))M "$out"
printf 'start=2048,size=%d,type=c,bootable\nstart=%d,type=83\n' $((boot_mib * 2048)) $((2048 + boot_mib * 2048)) | sfdisk -q "$out"
mkfs.fat -F 32 -s 1 -n bootfs --offset 2048 "$out" $((boot_mib * 1024)) > /dev/null
mke2fs -q -t ext4 -O ^orphan_file,^metadata_csum_seed -L rootfs -d "$root" -E "nodiscard,offset=$(((2048 + boot_mib * 2048) * 512))" "$out" "$((root_mib * 1024))k"

fat=$work/fat
mkdir -p "$fat/overlays"
cp "$work/kernel/boot/vmlinuz-$version" "$fat/kernel8.img"
cp "$work/initramfs8" "$fat/initramfs8"
cp "$work/kernel/usr/lib/linux-image-$version/broadcom/bcm2837-rpi-3-b.dtb" "$fat/"
printf 'arm_64bit=1\nauto_initramfs=1\n' > "$fat/config.txt"
echo 'Raspberry Pi reference 2024-11-19' > "$fat/issue.txt"
echo 'console=ttyAMA0,115200 root=LABEL=rootfs rootfstype=ext4 fsck.repair=yes rootwait net.ifnames=0' > "$fat/cmdline.txt"
if [ "$kind" = cloud-init ]; then
  printf '#cloud-config\n\n# Settings go here.\n' > "$fat/user-data"
  printf 'dsmode: local\ninstance_id: rpios-image\n' > "$fat/meta-data"
  printf 'network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n      optional: true\n' > "$fat/network-config"
fi
mcopy -s -i "$out@@$((2048 * 512))" "$fat"/* ::
