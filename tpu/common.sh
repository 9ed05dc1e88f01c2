# What the scripts share. TPU and ZONE name the slice.

: "${TPU:?TPU must be the name of the slice.}"
: "${ZONE:?ZONE must be the zone of the slice, e.g. us-central2-b.}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Runs a command, or prints it if DRY_RUN is set.
run() {
  if [[ -n "${DRY_RUN:-}" ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# Runs a script of remote/ on every host: on_hosts SCRIPT ARGUMENTS…
on_hosts() {
  local script=$1
  shift
  local words=''
  (($#)) && words=$(printf ' %q' "$@")
  run gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
    --command="set --$words"$'\n'"$(cat "$here/remote/$script")"
}
