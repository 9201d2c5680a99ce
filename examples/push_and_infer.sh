#!/bin/sh
# Push a model to one device on the embedded broker, and run samples through it over MQTT.
#
#     sh examples/push_and_infer.sh DIR/NAME/N SAMPLES.npy
#
# The first is a version as `edgeferry convert` writes it, the second holds samples along its first axis. The device is
# a process on this machine; on a Raspberry Pi the two `edgeferry-agent` commands run there, and nothing else differs.
# Everything lies in a folder of its own, which is removed at the end. PORT is the broker's, 18830 unless it is set.
# Needs `edgeferry` and `edgeferry-agent` on the PATH.
set -eu

artifact=${1:?usage: push_and_infer.sh DIR/NAME/N SAMPLES.npy}
samples=${2:?usage: push_and_infer.sh DIR/NAME/N SAMPLES.npy}
model=$(basename "$(dirname "$artifact")")
profile=$(ls "$artifact" | head -n 1) # any of those that it was converted for

folder=$(mktemp -d)
running=
clean_up() {
    for process in $running; do kill "$process" 2>/dev/null || true; done
    wait
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

export EDGEFERRY_FLEET="$folder/fleet" EDGEFERRY_BROKER="mqtt://127.0.0.1:${PORT:-18830}"

wait_for() { # wait_for WORD LOG PROCESS: until the log of the process has the word
    tries=0
    until grep -q "$1" "$2"; do
        tries=$((tries + 1))
        if [ $tries -gt 200 ] || ! kill -0 "$3" 2>/dev/null; then
            cat "$2" >&2
            exit 1
        fi
        sleep 0.1
    done
}

# The workstation: a fleet, the token of a device, and a broker. The token is a secret and travels in a file. It is made
# first, because the embedded broker starts anew when it learns of a device while it runs.
edgeferry init
edgeferry token kitchen -p "$profile" >"$folder/token"
edgeferry broker run >"$folder/broker.log" 2>&1 &
running=$!
wait_for "listening" "$folder/broker.log" $!

# The device.
edgeferry-agent init --token-file "$folder/token" --state-dir "$folder/state" -o "$folder/agent.yaml"
edgeferry-agent run --config "$folder/agent.yaml" >"$folder/agent.log" 2>&1 &
running="$! $running"
wait_for "connected" "$folder/agent.log" $!

# The way: --watch waits for devices that are not there yet.
edgeferry push "$artifact" --to kitchen --watch
edgeferry infer kitchen "$model" --input "$samples" --output "$folder/answers.npy"
edgeferry status "$model"
