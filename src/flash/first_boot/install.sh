#!/bin/sh
# Written by `bramble flash`. install.sh BOOT start|later [keep]: puts the agent from the boot partition into place, once, and takes what is secret off
# it; with `keep` only what is the agent's, since something else is to be tried again.
#
# Power may go at any line: it is run again at the next boot, and goes on. Nothing is taken off BOOT before all of it is on the disk.

# A file in its place, whole or not at all: put FROM TO MODE.
put() {
  [ -f "$1" ] || return 0
  cp "$1" "$2.new" && chmod "$3" "$2.new" && sync "$2.new" && mv -f "$2.new" "$2"
}

# The first text of this name in a file of JSON or TOML: text FILE NAME.
text() { sed -n -e "s/^[[:space:]{]*\"\{0,1\}$2\"\{0,1\}[[:space:]]*[:=][[:space:]]*\"\([^\"]*\)\".*/\1/p" "$1" | head -n 1; }

# Whether the node whose data is here is the one on the card. The agent writes its board into join.json, so the files are never the same.
is_this_node() {
  here=$(text $data/join.json node)
  if [ -f "$from/bramble-agent/join.json" ]; then
    uid=$(text $data/join.json cluster_uid)
    [ -n "$here" ] && [ "$here" = "$(text "$from/bramble-agent/join.json" node)" ] &&
      [ -n "$uid" ] && [ "$uid" = "$(text "$from/bramble-agent/join.json" cluster_uid)" ]
  else
    [ "$here" = "$(text "$from/agent.toml" node)" ]
  fi
}

# Moves the data of another node aside, to a name that is free: volumes of its pods may be in it.
set_aside() {
  old=$data.old number=1
  while [ -e "$old" ]; do
    number=$((number + 1))
    old=$data.old-$number
  done
  mv $data "$old"
}

install_agent() {
  mkdir -p /usr/local/bin /etc/bramble /etc/systemd/system || return 1
  put "$from/bramble" /usr/local/bin/bramble 0755 || return 1
  put "$from/bramble-agent.service" /etc/systemd/system/bramble-agent.service 0644 || return 1
  # It may hold a token.
  put "$from/agent.toml" /etc/bramble/agent.toml 0600 || return 1
  data=/var/lib/bramble-agent
  # From before the card was flashed again.
  if [ -f $data/join.json ] && ! is_this_node; then set_aside || return 1; fi
  if [ -f "$from/bramble-agent/join.json" ]; then
    mkdir -p $data/pki && chmod 0700 $data $data/pki || return 1
    put "$from/bramble-agent/pki/ca.crt" $data/pki/ca.crt 0644 || return 1
    put "$from/bramble-agent/pki/node.crt" $data/pki/node.crt 0644 || return 1
    put "$from/bramble-agent/pki/node.key" $data/pki/node.key 0600 || return 1
    put "$from/bramble-agent/join.json" $data/join.json 0600 || return 1
  fi
  systemctl daemon-reload || true
  systemctl enable bramble-agent.service || return 1
  if [ -f "$from/ssh" ]; then systemctl enable ssh.service || echo "bramble: the SSH server cannot be turned on"; fi
  # Some versions of cloud-init let everybody read the network's key.
  if [ -f /etc/netplan/50-cloud-init.yaml ]; then chmod 0600 /etc/netplan/50-cloud-init.yaml; fi
  if [ -f "$from/country" ]; then
    if command -v raspi-config >/dev/null; then raspi-config nonint do_wifi_country "$(cat "$from/country")" || true; fi
    if command -v rfkill >/dev/null; then rfkill unblock wifi || true; fi
  fi
  sync
}

# What cloud-init read has done its work, and is kept by it on the disk: a password's hash and the network's key need not stay here. Each file is
# written over in its place, at its length, so that there is never none: cloud-init would take that for another machine. Settings that say nothing
# are `{}`: of a file of comments alone cloud-init warns at each boot.
blank_seed() {
  for name in user-data network-config; do
    if grep -q 'Written by `bramble flash`' "$boot/$name" 2>/dev/null; then
      size=$(wc -c < "$boot/$name")
      case $name in user-data) nothing='{}' ;; *) nothing='' ;; esac
      { echo '#cloud-config'; echo '# Written by `bramble flash`; the first boot took it over.'; echo "$nothing"; yes '' | head -c "$size"; } 2>/dev/null |
        head -c "$size" | dd of="$boot/$name" bs=64k iflag=fullblock conv=notrunc,fsync 2>/dev/null
    fi
  done
}

destroy() { shred -n 1 -u "$1" 2>/dev/null || rm -f "$1"; }

main() {
  boot=$1 from=$1/bramble
  [ -d "$from" ] || return 0
  if [ ! -f "$from/installed" ]; then
    install_agent || { echo "bramble: the agent was not installed"; return 1; }
    echo done > "$from/installed" && sync
    if [ "$2" = start ]; then
      if [ -f "$from/ssh" ]; then systemctl start --no-block ssh.service || true; fi
      systemctl start --no-block bramble-agent.service || true
    fi
  fi
  for name in bramble-agent/pki/node.key agent.toml; do
    if [ -f "$from/$name" ]; then destroy "$from/$name"; fi
  done
  sync
  if [ "$3" = keep ]; then return 0; fi
  # This script last: as long as it is there, the next boot runs it.
  find "$from" -type f ! -name install.sh ! -name installed ! -name '*.done' -exec rm -f {} +
  sync
  blank_seed
  rm -rf "$from"
  sync
}

# All of it is read before the first line runs: the file is removed on the way.
main "$@"
exit $?
