#!/bin/bash
# Asks for a Cloud TPU slice, and waits until it is there.
#
#   TPU=my-slice ZONE=us-central2-b tpu/create.sh v4-32
#   TPU=my-slice ZONE=us-west4-a tpu/create.sh v5litepod-16
#   TPU=my-slice ZONE=us-east5-a tpu/create.sh v5p-32 --spot
#   TPU=my-slice ZONE=us-east5-b tpu/create.sh v6e-16 --spot
#
# Further arguments are those of `gcloud compute tpus queued-resources create`.
# DRY_RUN=1 prints the command instead of running it.
set -euo pipefail
source "$(dirname "$0")/common.sh"

type=${1:-}
case $type in
  v4-*) version=tpu-ubuntu2204-base ;;
  v5litepod-*) version=v2-alpha-tpuv5-lite ;;
  v5p-*) version=v2-alpha-tpuv5 ;;
  v6e-*) version=v2-alpha-tpuv6e ;;
  *)
    echo "the type must be like v4-32, v5litepod-16, v5p-32 or v6e-16, but is '$type'." >&2
    exit 2
    ;;
esac
shift

run gcloud compute tpus queued-resources create "$TPU" --node-id="$TPU" \
  --zone="$ZONE" --accelerator-type="$type" --runtime-version="$version" "$@"
[[ -n "${DRY_RUN:-}" ]] && exit
while true; do
  state=$(gcloud compute tpus queued-resources describe "$TPU" --zone="$ZONE" \
    --format='value(state.state)')
  echo "$TPU: $state" >&2
  case $state in
    ACTIVE) exit ;;
    FAILED | SUSPENDED)
      echo "$TPU must become ACTIVE, but is $state. Run tpu/delete.sh, and try again or elsewhere." >&2
      exit 1
      ;;
  esac
  sleep "${POLL_SECONDS:-30}"
done
