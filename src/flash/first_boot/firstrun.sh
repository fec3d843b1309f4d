#!/bin/sh
# Written by `bramble flash`. systemd runs it once, as the kernel's command line says: name, person, Wi-Fi, the agent; then it is gone, and the Pi
# starts anew. Power may go at any line: the next boot runs it again. A step that fails leaves the others, keeps what it needs, says so on the boot
# partition, and is tried at two more boots; after that the Pi starts without it, and a person may run this script.

# A file in its place, whole or not at all: put FROM TO MODE.
put() { cp "$1" "$2.new" && chmod "$3" "$2.new" && sync "$2.new" && mv -f "$2.new" "$2"; }

set_hostname() {
  [ -f "$from/hostname" ] || return 0
  name=$(cat "$from/hostname")
  put "$from/hostname" /etc/hostname 0644 || return 1
  { grep -v '^127\.0\.1\.1' /etc/hosts; printf '127.0.1.1\t%s\n' "$name"; } > /etc/hosts.bramble
  put /etc/hosts.bramble /etc/hosts 0644 && rm -f /etc/hosts.bramble
}

set_user() {
  [ -f "$from/user" ] || return 0
  user=$(cat "$from/user")
  # A star lets nobody in by password.
  hash='*'
  if [ -f "$from/password" ]; then hash=$(cat "$from/password"); fi
  if ! id "$user" >/dev/null 2>&1; then
    if [ -x /usr/lib/userconf-pi/userconf ]; then
      # Raspberry Pi OS' own way: its first user gets this name.
      /usr/lib/userconf-pi/userconf "$user" "$hash" || return 1
    else
      useradd -m -s /bin/bash "$user" || return 1
    fi
  fi
  for group in adm dialout cdrom audio users sudo video games plugdev input gpio spi i2c netdev render; do
    if getent group "$group" >/dev/null; then usermod -a -G "$group" "$user" || return 1; fi
  done
  echo "$user:$hash" | chpasswd -e || return 1
  mkdir -p /etc/sudoers.d
  echo "$user ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.bramble
  put /etc/sudoers.bramble /etc/sudoers.d/010_bramble 0440 && rm -f /etc/sudoers.bramble || return 1
  if [ -f "$from/authorized_keys" ]; then
    home=$(getent passwd "$user" | cut -d: -f6)
    mkdir -p "$home/.ssh" && chmod 0700 "$home/.ssh" || return 1
    put "$from/authorized_keys" "$home/.ssh/authorized_keys" 0600 || return 1
    chown -R "$user:" "$home/.ssh" || return 1
  fi
  # Nobody is asked for a first user any more.
  systemctl disable userconfig.service >/dev/null 2>&1 || true
}

set_wifi() {
  if [ -f "$from/wifi.nmconnection" ] && [ -d /etc/NetworkManager ]; then
    mkdir -p /etc/NetworkManager/system-connections
    put "$from/wifi.nmconnection" /etc/NetworkManager/system-connections/bramble.nmconnection 0600 || return 1
  elif [ -f "$from/wpa_supplicant.conf" ] && [ -d /etc/wpa_supplicant ]; then
    put "$from/wpa_supplicant.conf" /etc/wpa_supplicant/wpa_supplicant.conf 0600 || return 1
  fi
  [ -f "$from/country" ] || return 0
  # The radio is switched off until somebody says where it stands.
  for switch in /var/lib/systemd/rfkill/*:wlan; do
    if [ -f "$switch" ]; then echo 0 > "$switch"; fi
  done
}

forget_this() {
  sed -e 's| systemd\.run[^ ]*||g' -e 's| systemd\.unit=kernel-command-line\.target||g' "$boot/cmdline.txt" > "$boot/cmdline.new" || return 1
  sync
  mv -f "$boot/cmdline.new" "$boot/cmdline.txt" && sync
}

destroy() { shred -n 1 -u "$1" 2>/dev/null || rm -f "$1"; }

# A step, until it went well once: step NAME FUNCTION SECRET... What is secret of it goes then, and no sooner.
step() {
  marker="$from/$1.done" run=$2
  if [ ! -f "$marker" ]; then
    if ! "$run" || ! echo done > "$marker" || ! sync; then
      failed="$failed $1"
      return 0
    fi
  fi
  shift 2
  for secret in "$@"; do
    if [ -f "$from/$secret" ]; then destroy "$from/$secret"; fi
  done
}

# Whether the next boot tries again. A try that cannot be counted is the last: else the Pi would start anew for ever.
try_again() {
  tries=$(cat "$from/tries" 2>/dev/null)
  case $tries in 1) tries=2 ;; '') tries=1 ;; *) return 1 ;; esac
  echo "$tries" > "$from/tries" && sync
}

main() {
  boot=$(dirname "$0") from=$(dirname "$0")/bramble failed=
  if [ -d "$from" ]; then
    step host-name set_hostname
    step user set_user password
    step wifi set_wifi wifi.nmconnection wpa_supplicant.conf
  fi
  if [ -f "$from/install.sh" ]; then
    sh "$from/install.sh" "$boot" later ${failed:+keep} || failed="$failed agent"
  fi
  if [ -z "$failed" ]; then
    rm -f "$boot/bramble-failed.txt"
    forget_this && rm -f "$boot/firstrun.sh" && sync
    return
  fi
  if try_again; then
    echo "Did not go well at the first boot:$failed. It is tried again, three times in all. See journalctl -b -1." > "$boot/bramble-failed.txt"
    sync
    return 0
  fi
  echo "Did not go well at three boots:$failed. See journalctl -b -1. To try again: sudo sh $0" > "$boot/bramble-failed.txt"
  forget_this
}

main "$@"
exit $?
