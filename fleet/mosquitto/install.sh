#!/bin/sh
# Puts the mosquitto of an edgeferry fleet onto this Debian host: `sudo sh install.sh [OWNER]`.
# OWNER may add devices without being root. Run it again after every change: what is right already stays as it is.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
owner=${1:-root}
place=/etc/mosquitto/edgeferry
conf=/etc/mosquitto/mosquitto.conf
units=/etc/systemd/system
changed=

say() { echo "install.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

# put MODE OWNER FROM TO: one file, replaced in one step, and only when it differs.
put() {
    if cmp -s "$3" "$4" && [ "$(stat -c '%a %U:%G' "$4")" = "$1 $2" ]; then return; fi
    install -m "$1" "$3" "$4.new"
    chown "$2" "$4.new"
    sync "$4.new"
    mv "$4.new" "$4"
    changed="$changed $4"
}

[ "$(id -u)" = 0 ] || { say "it changes /etc: run it as root, with sudo"; exit 78; }
id "$owner" >/dev/null 2>&1 || { say "there is no user $owner"; exit 78; }

if ! command -v mosquitto >/dev/null && ! [ -x /usr/sbin/mosquitto ]; then
    command -v apt-get >/dev/null || fail "mosquitto is not installed, and this is no Debian: install it, then run this again"
    say "installing mosquitto"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto >/dev/null
fi
getent group mosquitto >/dev/null || fail "there is no group mosquitto: the package is not Debian's"

install -d -m 751 -o root -g mosquitto "$place"
install -d -m 2750 -o "$owner" -g mosquitto "$place/users"
put 640 root:mosquitto "$here/server.key" "$place/server.key"
for name in server.pem devices.acl people.acl; do put 640 root:mosquitto "$here/$name" "$place/$name"; done
before_users=$changed
for name in devices people; do put 640 "$owner:mosquitto" "$here/users/$name" "$place/users/$name"; done
new_users=${changed#"$before_users"}
changed=$before_users

if [ -e "$conf" ] && ! grep -q '^# Written by `edgeferry broker setup`' "$conf"; then
    backup=$conf.before-edgeferry
    number=1
    while [ -e "$backup" ]; do number=$((number + 1)); backup=$conf.before-edgeferry-$number; done
    cp -p "$conf" "$backup"
    say "what was in $conf is in $backup"
fi
put 644 root:root "$here/mosquitto.conf" "$conf"

if ! [ -d /run/systemd/system ]; then
    say "there is no systemd here: start it with  mosquitto -c $conf"
    exit 0
fi
install -d "$units/mosquitto.service.d"
put 644 root:root "$here/mosquitto.service.conf" "$units/mosquitto.service.d/edgeferry.conf"
for name in edgeferry-mosquitto.path edgeferry-mosquitto.service; do put 644 root:root "$here/$name" "$units/$name"; done
systemctl daemon-reload
systemctl enable --quiet mosquitto.service
systemctl enable --quiet --now edgeferry-mosquitto.path
if [ -n "$changed" ]; then
    systemctl restart mosquitto.service || { journalctl --no-pager -n 5 -u mosquitto >&2; fail "mosquitto does not start"; }
    say "mosquitto runs with the fleet's configuration"
elif ! systemctl --quiet is-active mosquitto.service; then
    systemctl start mosquitto.service
elif [ -n "$new_users" ]; then
    systemctl reload mosquitto.service
else
    say "nothing had to be changed"
fi
