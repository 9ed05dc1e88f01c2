#!/bin/bash
# Trains a part on every host of a Cloud TPU slice, all of them together.
#
#   TPU=my-slice ZONE=us-central2-b tpu/train_pod.sh --gin_file=stages/semantic.gin --gin_file=sizes/paper.gin --gin.DATA_DIR='"gs://my-bucket/data"' --gin.MODEL_DIR='"gs://my-bucket/semantic"'
#
# The slice must have been made by tpu/setup.sh. Run it in tmux or screen, as
# training ends with the connection. Where it breaks off it starts again, and
# goes on from its last checkpoint; so does the same command on another slice.
# DRY_RUN=1 prints the command instead of running it.
set -euo pipefail
source "$(dirname "$0")/common.sh"

if (($# == 0)); then
  echo 'Arguments must be those of `musiclm train`, but there are none.' >&2
  exit 2
fi
on_hosts train.sh "$@"
