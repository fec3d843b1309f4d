#!/usr/bin/env bash
# Makes the Debian package: cross/deb.sh [--arch arm64|armhf|amd64] [--program FILE] [--whole] [--version V] [--output FOLDER]
# Prints the path of the package. It needs dpkg-deb, and without --program what cross/build.sh needs.
#
#   arm64    the static agent for every 64-bit Pi (default)
#   armhf    the static agent for every 32-bit Pi: it is built for ARMv6, so that it runs on a Zero and a Pi 1 too
#   --whole  the program is the whole one: the package is `bramble`, with the master; else `bramble-agent`
#
# By dpkg-deb and not by cargo-deb: nothing more has to be compiled, and the maintainer's scripts are short enough to be read whole.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=arm64 program='' name=bramble-agent output=target/deb
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=$2; shift ;;
    --program) program=$2; shift ;;
    --version) version=$2; shift ;;
    --output) output=$2; shift ;;
    --whole) name=bramble ;;
    *) sed -n '2,4p' "$0" >&2; exit 2 ;;
  esac
  shift
done
case $arch in
  arm64) board=rpi-4b machine=b700 ;;
  armhf) board=rpi-zero-w machine=2800 ;;
  amd64) board='' machine=3e00 ;;
  *) echo "cross/deb.sh: there is no package for $arch: arm64, armhf or amd64" >&2; exit 2 ;;
esac
if [ -z "$program" ]; then
  [ -n "$board" ] && [ $name = bramble-agent ] || {
    echo "cross/deb.sh: cross/build.sh makes the agents for arm64 and armhf; give another program by --program FILE" >&2; exit 2; }
  program=$(cross/build.sh "$board")
fi
# Bytes 18 and 19 of an ELF file say which processor it is for: a package with another one's program could be installed, and never run.
found=$(od -An -tx1 -j18 -N2 "$program" | tr -d ' \n')
[ "$found" = "$machine" ] || { echo "cross/deb.sh: $program is not for $arch (its ELF machine is $found, not $machine)" >&2; exit 2; }

root=$(mktemp -d)
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT
put() { install -D -m "$1" "$2" "$root$3"; }
# Debian's packages own /usr and leave /usr/local to people: the units are those of systemd/, with the other path.
unit() { install -d "$root/usr/lib/systemd/system"; sed 's,/usr/local/bin/,/usr/bin/,' "systemd/$1" >"$root/usr/lib/systemd/system/$1"; }
doc=/usr/share/doc/$name

put 755 "$program" /usr/bin/bramble
unit bramble-agent.service
put 600 systemd/agent.toml /etc/bramble/agent.toml
put 644 systemd/backoff.conf /usr/share/bramble/backoff.conf
put 644 systemd/watchdog.conf $doc/examples/watchdog.conf
put 644 docs/installing.md $doc/installing.md
if [ $name = bramble ]; then
  unit bramble-master.service
  put 644 systemd/master.toml /etc/bramble/master.toml
  put 644 systemd/sysusers.conf /usr/lib/sysusers.d/bramble.conf
  put 644 systemd/tmpfiles.conf /usr/lib/tmpfiles.d/bramble.conf
fi
cat >"$root$doc/copyright" <<EOF
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: bramble

Files: *
Copyright: 2026 The Bramble authors
License: Apache-2.0
 On Debian systems the text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.
EOF
date=$(git log -1 --format=%cd --date=rfc2822 2>/dev/null || date -R)
printf '%s (%s) stable; urgency=medium\n\n  * docs/ and README.md in the source tell what changed.\n\n -- The Bramble authors <bramble@localhost>  %s\n' \
  "$name" "$version" "$date" | gzip -9n >"$root$doc/changelog.gz"
chmod 644 "$root$doc"/copyright "$root$doc"/changelog.gz "$root"/usr/lib/systemd/system/*

control=$root/DEBIAN
install -d "$control"
depends=systemd
# A program of this machine's, for tests: Raspberry Pis get static ones.
if grep -aqm1 '/ld-linux' "$program"; then depends='systemd, libc6, libgcc-s1'; fi
other=$([ $name = bramble ] && echo bramble-agent || echo bramble)
cat >"$control/control" <<EOF
Package: $name
Version: $version
Architecture: $arch
Maintainer: The Bramble authors <bramble@localhost>
Section: admin
Priority: optional
Installed-Size: $(du -k --apparent-size -s "$root" | cut -f1)
Depends: $depends
Recommends: docker.io | docker-ce | podman, nftables
Conflicts: $other
Replaces: $other
Description: Kubernetes for a shoebox of Raspberry Pis$([ $name = bramble ] || echo ": the node agent")
 Bramble's agent runs pods in Docker and shows on the board's LEDs how they
 are. A small master on one of the boards schedules them, and is driven by the
 usual kubectl.
EOF
{ echo /etc/bramble/agent.toml; [ $name = bramble-agent ] || echo /etc/bramble/master.toml; } >"$control/conffiles"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$control/md5sums"
units=bramble-agent
[ $name = bramble-agent ] || units="bramble-master bramble-agent"
for script in postinst prerm postrm; do
  sed "s/@UNITS@/$units/" "cross/deb/$script" >"$control/$script"
  chmod 755 "$control/$script"
done

install -d "$output"
package=$output/${name}_${version}_$arch.deb
# Bookworm's and Bullseye's dpkg read xz; the same input gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)} \
  dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" --build "$root" "$package" >&2
echo "$package"
