#!/bin/sh
# rootfs.sh DIR: what the test's card is made of, into DIR: rootfs.tar, linux.deb, busybox.deb.
#
# Debian for arm64 with systemd, cloud-init and OpenSSH: the nearest to Raspberry Pi OS that Debian alone can make. Needs root, mmdebstrap, arch-test,
# and qemu-user-static. Takes minutes; the answer is kept (see image.rs), so it is asked once a machine.
set -eu
out=$1
mkdir -p "$out"
out=$(cd "$out" && pwd)

# Programs for arm64 have to run here. Where nobody has registered QEMU for them (binfmt_misc), it is registered for this script alone, in a user
# namespace with the same users (Linux 6.7): the machine stays as it is.
if ! arch-test arm64 >/dev/null; then
  [ -z "${ALONE:-}" ] || { echo "programs for arm64 do not run here; register qemu-user-static with binfmt_misc (Debian: binfmt-support)" >&2; exit 1; }
  register=':arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  mapped=$(mktemp -u) && mkfifo "$mapped"
  ALONE=1 REGISTER="$register:$(command -v qemu-aarch64-static):F" MAPPED=$mapped unshare --user --mount sh -c '
    read -r go <"$MAPPED"
    mount --make-rprivate /
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && printf %s "$REGISTER" >/proc/sys/fs/binfmt_misc/register
    exec "$@"' sh "$0" "$out" &
  alone=$!
  # It is in its namespace when that is no longer ours.
  while [ "$(readlink /proc/$alone/ns/user)" = "$(readlink /proc/$$/ns/user)" ]; do sleep 0.1; done
  for map in uid_map gid_map; do echo '0 0 4294967295' >/proc/$alone/$map; done
  echo go >"$mapped"
  rm "$mapped"
  wait $alone
  exit
fi

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
