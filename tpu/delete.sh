#!/bin/bash
# Gives a Cloud TPU slice back. What is not in a bucket is lost.
#
#   TPU=my-slice ZONE=us-central2-b tpu/delete.sh
#
# DRY_RUN=1 prints the command instead of running it.
set -euo pipefail
source "$(dirname "$0")/common.sh"

run gcloud compute tpus queued-resources delete "$TPU" --zone="$ZONE" --force \
  --quiet
