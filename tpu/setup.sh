#!/bin/bash
# Installs the package on every host of a Cloud TPU slice.
#
#   pip wheel --no-deps --wheel-dir dist .
#   TPU=my-slice ZONE=us-central2-b tpu/setup.sh dist/musiclm_jax-0.1.0-py3-none-any.whl
#
# The argument is a wheel of this machine, which is copied, or what pip takes as
# a URL, e.g. git+https://…. Run it again to install another version.
# DRY_RUN=1 prints the commands instead of running them.
set -euo pipefail
source "$(dirname "$0")/common.sh"

package=${1:-}
if [[ -f $package ]]; then
  name=$(basename "$package")
  run gcloud compute tpus tpu-vm scp "$package" "$TPU:/tmp/$name" \
    --zone="$ZONE" --worker=all
  package=file:///tmp/$name
elif [[ $package != *://* ]]; then
  echo "the package must be a wheel that is there, or a URL, but is '$package'." >&2
  exit 2
fi
on_hosts setup.sh "$package"
