# Tells what a machine is, as KEY=VALUE lines; changes nothing. Sent to `sh -s` over ssh.
LC_ALL=C; export LC_ALL
first() { sed -n 1p; }
echo "edgeferry_probe=1"
echo "machine=$(uname -m)"
echo "bits=$(getconf LONG_BIT 2>/dev/null || echo 64)"
[ -r /proc/device-tree/model ] && echo "model=$(tr -d '\0' </proc/device-tree/model)"
[ -r /sys/class/dmi/id/product_name ] && echo "model=$(first </sys/class/dmi/id/product_name)"
echo "memory_kib=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
echo "cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)"
echo "os=$(. /etc/os-release 2>/dev/null; echo "$PRETTY_NAME")"
echo "hostname=$(uname -n)"
echo "machine_id=$(first </etc/machine-id 2>/dev/null)"
pythons=
for name in python3 python3.11 python3.12 python3.13; do
    found=$("$name" -c 'import sys, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case " $pythons " in *" $found "*) ;; *) pythons="$pythons $found";; esac
done
echo "pythons=${pythons# }"
[ -d /run/systemd/system ] && echo "systemd=yes"
if [ "$(id -u)" = 0 ]; then echo "sudo=root"
elif sudo -n true 2>/dev/null; then echo "sudo=free"
elif command -v sudo >/dev/null; then echo "sudo=asks"
else echo "sudo=none"; fi
place=/opt; [ -d "$place" ] || place=/
echo "free_kib=$(df -Pk "$place" | sed -n '2s/^[^ ]* *[0-9]* *[0-9]* *\([0-9]*\).*/\1/p')"
echo "device=$(sed -n 's/^id: *//p' /etc/edgeferry/agent.yaml 2>/dev/null)"
echo "home=$HOME"
