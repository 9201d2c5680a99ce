#!/bin/sh
# Installs the edgeferry agent of this bundle on this device, or upgrades the one that is here:
#     sudo sh install.sh --token-file FILE        (the options of `edgeferry-agent install`)
# Interrupted, it goes on from where it was when it is run again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
fail() { echo "install.sh: $*" >&2; exit 78; }

[ "$(id -u)" = 0 ] || fail "it changes the system: run it as root, with sudo"
(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) || fail "the bundle is damaged: copy it again"

check='
import struct, sys, venv, platform
machine = platform.machine()
machine = "armv7l" if machine == "aarch64" and struct.calcsize("P") == 4 else machine
print(machine, "%d.%d" % sys.version_info[:2])
'
wanted_machine=$(sed -n 's/^machine=//p' "$here/bundle")
wanted_pythons=$(sed -n 's/^pythons=//p' "$here/bundle")
python= found=
for name in python3 python3.11 python3.12 python3.13; do
    command -v "$name" >/dev/null || continue
    this=$("$name" -c "$check") || continue
    found="$found $this;"
    case " $wanted_pythons " in *" ${this#* } "*) [ "${this% *}" = "$wanted_machine" ] && { python=$name; break; };; esac
done
[ -n "$python" ] || fail "the bundle is for $wanted_machine with Python $wanted_pythons; found here:${found:- no Python}"

index=$(sed -n 's/^index=//p' "$here/bundle")
wheel=$(ls "$here"/wheels/edgeferry-*.whl)
environment=$(PYTHONPATH=$wheel "$python" -P -m edgeferry.agent.installation.environment "$here/wheels" "$index") || exit $?
exec "$environment/bin/edgeferry-agent" install "$@"
