#!/bin/bash
# Trains a part on every host of a Cloud TPU slice, all of them together.
#
#   TPU=my-slice ZONE=us-central2-b PACKAGE='/mnt/music/musiclm_jax-0.1.0-py3-none-any.whl[train]' tpu/train_pod.sh --gin_file=stages/semantic.gin --gin_file=sizes/paper.gin --gin.DATA_DIR='"/mnt/music/data"' --gin.MODEL_DIR='"/mnt/music/semantic"'
#
# PACKAGE is what pip installs, with the extra `train`: a wheel, or a git URL.
# DATA_DIR and MODEL_DIR must lie in a folder that all hosts share: with
# BUCKET=my-bucket, a bucket that is mounted at /mnt/music by gcsfuse.
# DRY_RUN=1 prints the command instead of running it.
set -euo pipefail

: "${TPU:?TPU must be the name of a TPU VM.}"
: "${ZONE:?ZONE must be the zone of the TPU VM.}"
: "${PACKAGE:?PACKAGE must be what pip installs, with the extra train.}"
if (($# == 0)); then
  echo 'Arguments must be those of `musiclm train`, but there are none.' >&2
  exit 2
fi

remote='set -e'
if [[ -n "${BUCKET:-}" ]]; then
  remote+="; mountpoint -q /mnt/music || { sudo mkdir -p /mnt/music; sudo chown \$USER /mnt/music; gcsfuse --implicit-dirs $(printf %q "$BUCKET") /mnt/music; }"
fi
remote+="; pip install --quiet --upgrade $(printf %q "$PACKAGE") 'jax[tpu]'"
remote+="; musiclm train --distributed$(printf ' %q' "$@")"

command=(gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$remote")
if [[ -n "${DRY_RUN:-}" ]]; then
  printf '%q ' "${command[@]}"
  echo
else
  "${command[@]}"
fi
