#!/bin/sh
# Installs mosquitto where that needs no question; says how elsewhere. The tests run on it beside the embedded broker.
set -eu
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # The tests start their own, on ports of their own: the packaged service need not run.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto >/dev/null
else
    echo "the tests need mosquitto beside the embedded broker: sudo apt-get install mosquitto (macOS: brew install mosquitto)" >&2
    exit 78
fi
