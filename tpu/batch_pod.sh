#!/bin/bash
# Makes music from a list of prompts on every chip of a Cloud TPU slice.
#
#   TPU=my-slice ZONE=us-central2-b BUCKET=my-bucket PACKAGE=/mnt/music/musiclm_jax-0.1.0-py3-none-any.whl tpu/batch_pod.sh /mnt/music/prompts.jsonl --model /mnt/music/model --output_dir /mnt/music/out
#
# Each chip makes a shard in a process of its own and waits for no other: if
# some are killed, run the same command again. PACKAGE is what pip installs: a
# wheel, or a git URL. The list, the model and the output must lie in a folder
# that all hosts share: with BUCKET=my-bucket, a bucket that is mounted at
# /mnt/music by gcsfuse. CHIPS is the number of chips of a host: 4, or 8 or 1 on
# some v5e and v6e slices. DRY_RUN=1 prints the command instead of running it.
set -euo pipefail

: "${TPU:?TPU must be the name of a TPU VM.}"
: "${ZONE:?ZONE must be the zone of the TPU VM.}"
: "${PACKAGE:?PACKAGE must be what pip installs.}"
if (($# == 0)); then
  echo 'Arguments must be those of `musiclm batch`, but there are none.' >&2
  exit 2
fi

remote='set -e'
if [[ -n "${BUCKET:-}" ]]; then
  remote+="; mountpoint -q /mnt/music || { sudo mkdir -p /mnt/music; sudo chown \$USER /mnt/music; gcsfuse --implicit-dirs $(printf %q "$BUCKET") /mnt/music; }"
fi
remote+="; pip install --quiet --upgrade $(printf %q "$PACKAGE") 'jax[tpu]'"
remote+="; chips=$((${CHIPS:-4}))"
# Which host this is, and of how many.
remote+='
attribute() { curl -fsS -H Metadata-Flavor:Google "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"; }
worker=$(attribute agent-worker-number)
hosts=$(attribute worker-network-endpoints | tr , "\n" | grep -c .)
shard() {
  export TPU_CHIPS_PER_PROCESS_BOUNDS=1,1,1 TPU_PROCESS_BOUNDS=1,1,1
  export TPU_VISIBLE_DEVICES=$1 TPU_MESH_CONTROLLER_PORT=$((8476 + $1))
  export TPU_MESH_CONTROLLER_ADDRESS=localhost:$TPU_MESH_CONTROLLER_PORT'
remote+="
  musiclm batch$(printf ' %q' "$@")"
remote+=' --shard $((worker * chips + $1)) --num_shards $((hosts * chips))
}
processes=()
for ((i = 0; i < chips; i++)); do
  shard $i &
  processes+=($!)
done
status=0
for process in "${processes[@]}"; do
  wait $process || status=$?
done
exit $status'

command=(gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$remote")
if [[ -n "${DRY_RUN:-}" ]]; then
  printf '%q ' "${command[@]}"
  echo
else
  "${command[@]}"
fi
