#!/bin/sh
# rootfs.sh DIR: what the test's card is made of, into DIR: rootfs.tar, linux.deb, busybox.deb.
#
# Debian for arm64 with systemd, cloud-init and OpenSSH: the nearest to Raspberry Pi OS that Debian alone can make. Needs root, mmdebstrap, arch-test,
# and qemu-user-static registered with binfmt_misc. Takes minutes; the answer is kept (see image.rs), so it is asked once a machine.
set -eu
out=$1
mkdir -p "$out"
export OUT="$out"
# mmdebstrap's own apt knows arm64 only inside; the host's foreign architectures stay as they are.
mmdebstrap --arch=arm64 --variant=minbase \
  --include=systemd,systemd-sysv,udev,dbus,cloud-init,netplan.io,wpasupplicant,openssh-server,sudo,iproute2,systemd-timesyncd,rfkill,coreutils \
  --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='cd "$OUT" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download busybox-static "$(APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-cache depends linux-image-arm64 | sed -n "s/.*Depends: //p" | head -n 1)"' \
  --customize-hook='rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id && echo uninitialized > "$1"/etc/machine-id' \
  --customize-hook='echo raspberrypi > "$1"/etc/hostname && printf "127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n" > "$1"/etc/hosts' \
  bookworm "$out/rootfs.tar"
mv "$out"/busybox-static_*.deb "$out/busybox.deb"
mv "$out"/linux-image-*.deb "$out/linux.deb"
