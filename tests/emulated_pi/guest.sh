#!/usr/bin/env bash
# Makes what an emulated Pi boots from: guest.sh arm64|armel. Prints the folder with kernel, device trees and base.cpio.gz.
#
# Kernel and busybox are Debian's, by apt, from package lists of their own, so that this machine's architectures stay as they are.
# What was made is kept in the user's cache by the kernel's version, and looked up anew after a week; without a network what is
# there stays good.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
architecture=$1
case $architecture in
  arm64) image=linux-image-arm64 tree=usr/lib/linux-image-%s/broadcom boards=(bcm2837-rpi-3-b) ;;
  armel) image=linux-image-rpi tree=usr/lib/linux-image-%s boards=(bcm2835-rpi-zero-w) ;;
  *) echo "guest.sh: arm64 or armel, not $architecture" >&2; exit 2 ;;
esac
for tool in apt-get dpkg-deb depmod modprobe cpio fdtput; do
  command -v "$tool" >/dev/null || { echo "guest.sh: $tool is missing: apt-get install apt dpkg kmod cpio device-tree-compiler" >&2; exit 1; }
done

cache=${XDG_CACHE_HOME:-$HOME/.cache}/bramble/emulated-pi
mkdir -p "$cache"
exec 9>"$cache/$architecture.lock"
flock 9
# What this script makes changes with the script and with what it puts in.
edition=$(cat "$here/guest.sh" "$here/init" "$here/modules" | sha256sum | cut -c1-8)
newest=$cache/$architecture-$edition
if [ -n "$(find "$newest" -mtime -7 2>/dev/null)" ]; then cat "$newest"; exit; fi

apt() {
  local command=$1; shift
  "$command" -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o Dir::State="$apt" \
    -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none "$@"
}
apt=$cache/apt-$architecture
mkdir -p "$apt"/{lists/partial,cache/archives/partial}
: >"$apt/status"
# Sources that are not Debian's may fail for this architecture.
apt apt-get update -qq >&2 || true
package=$(apt apt-cache depends "$image" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
if [ -z "$package" ]; then
  [ -s "$newest" ] && { echo "guest.sh: no package lists; takes the kernel that is here" >&2; cat "$newest"; exit; }
  echo "guest.sh: apt knows no $image for $architecture: are there Debian's sources, and a network?" >&2; exit 1
fi
version=${package#linux-image-}
folder=$cache/$version-$edition
if [ ! -d "$folder" ]; then
  work=$(mktemp -d "$cache/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && apt apt-get download -qq "$package" busybox-static >&2)
  mkdir "$work"/{kernel,busybox,root,out}
  dpkg-deb -x "$work"/linux-image-*.deb "$work/kernel"
  dpkg-deb -x "$work"/busybox-static_*.deb "$work/busybox"
  cp "$work/kernel/boot/vmlinuz-$version" "$work/out/kernel"
  # shellcheck disable=SC2059 # the format is ours
  trees=$work/kernel/$(printf "$tree" "$version")
  for board in "${boards[@]}"; do cp "$trees/$board.dtb" "$work/out/"; done

  root=$work/root modules=$work/root/lib/modules/$version
  mkdir -p "$root"/{bin,dev,etc,proc,run,sys,tmp,usr/bin,var/lib} "$modules"
  cp "$work/busybox/bin/busybox" "$root/bin/"
  cp "$here/init" "$root/init"
  cp "$here/modules" "$root/etc/modules"
  chmod 755 "$root/init"
  printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
  depmod -b "$work/kernel" "$version"
  # What is built into this kernel, or is not in it, has no file.
  while read -r module; do
    modprobe -S "$version" -d "$work/kernel" --show-depends --ignore-install "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }' || true
  done <"$here/modules" | sort -u | while read -r file; do
    install -D -m644 "$file" "$modules/${file#*"/lib/modules/$version/"}"
  done
  cp "$work/kernel/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$modules/"
  depmod -b "$root" "$version"
  (cd "$root" && find . | cpio -o -H newc --quiet --owner=0:0 | gzip -1) >"$work/out/base.cpio.gz"

  # Firmware writes the serial number. A Bluetooth chip on the serial port would take the console's input.
  case $architecture in
    # QEMU has no expander on the firmware's side, where the ACT LED of a 3B is: here it is on pin 29 of the processor.
    arm64)
      dtb=$work/out/bcm2837-rpi-3-b.dtb
      gpio=$(fdtget -t x "$dtb" /soc/gpio@7e200000 phandle)
      fdtput -t x "$dtb" /leds/led-act gpios "$gpio" 1d 0
      fdtput -r "$dtb" /soc/serial@7e201000/bluetooth
      fdtput -t s "$dtb" / serial-number 00000000b3a3b1e5
      ;;
    # QEMU has no ASB, without which the kernel's driver for power domains falls: the tree says so, as that of an older Pi does.
    armel)
      dtb=$work/out/bcm2835-rpi-zero-w.dtb
      fdtput -t x "$dtb" /soc/watchdog@7e100000 reg 7e100000 114
      fdtput -t s "$dtb" /soc/watchdog@7e100000 reg-names pm
      fdtput -r "$dtb" /soc/serial@7e201000/bluetooth
      fdtput -t s "$dtb" / serial-number 00000000b3a30e01
      ;;
  esac
  mv "$work/out" "$folder"
fi
printf '%s\n' "$folder" >"$newest"
cat "$newest"
