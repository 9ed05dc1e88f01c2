# Makes the shards of this host, one on each chip.
#
# The arguments are those of `musiclm batch`.
set -euo pipefail

# Files of chips, on v4 and on later ones; SYSTEM is another root for tests.
shopt -s nullglob
chips=("${SYSTEM:-}"/dev/accel* "${SYSTEM:-}"/dev/vfio/[0-9]*)
if ((${#chips[@]} == 0)); then
  echo 'a host must have TPU chips, but /dev/accel* and /dev/vfio hold none.' >&2
  exit 2
fi

# Which host this is, and of how many.
attribute() {
  "${CURL:-curl}" -fsS -H Metadata-Flavor:Google \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}
worker=$(attribute agent-worker-number)
hosts=$(attribute worker-network-endpoints | tr , '\n' | grep -c .)

shard() {
  local port=$((8476 + $1))
  TPU_CHIPS_PER_PROCESS_BOUNDS=1,1,1 TPU_PROCESS_BOUNDS=1,1,1 \
    TPU_VISIBLE_DEVICES=$1 TPU_MESH_CONTROLLER_PORT=$port \
    TPU_MESH_CONTROLLER_ADDRESS=localhost:$port \
    ~/musiclm/venv/bin/musiclm batch "${@:2}" \
    --shard $((worker * ${#chips[@]} + $1)) \
    --num_shards $((hosts * ${#chips[@]}))
}
processes=()
for ((i = 0; i < ${#chips[@]}; i++)); do
  shard $i "$@" &
  processes+=($!)
done
status=0
for process in "${processes[@]}"; do
  wait "$process" || status=$?
done
exit $status
