#!/bin/bash
# Makes music from a list of prompts on every chip of a Cloud TPU slice.
#
#   TPU=my-slice ZONE=us-central2-b tpu/batch_pod.sh gs://my-bucket/prompts.jsonl --model gs://my-bucket/model --output_dir gs://my-bucket/out
#
# The slice must have been made by tpu/setup.sh. Each chip makes a shard in a
# process of its own and waits for no other: if some are killed, run the same
# command again. DRY_RUN=1 prints the command instead of running it.
set -euo pipefail
source "$(dirname "$0")/common.sh"

if (($# == 0)); then
  echo 'Arguments must be those of `musiclm batch`, but there are none.' >&2
  exit 2
fi
on_hosts batch.sh "$@"
