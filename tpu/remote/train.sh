# Trains, and starts again what was cut off: it goes on from its checkpoint.
#
# The arguments are those of `musiclm train`. If a host dies, the others end soon
# after, and all meet again here. A preempted job has saved, and ends with status
# 0, too, but without the line that says it is done.
set -euo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT
has_trained=
for ((restarts = 0; ; restarts++)); do
  status=0
  ~/musiclm/venv/bin/musiclm train --distributed "$@" | tee "$log" ||
    status=${PIPESTATUS[0]}
  if grep -q '^step ' "$log"; then has_trained=yes; fi
  why="ended with status $status"
  case $status in
    0)
      if grep -q ': done at step ' "$log"; then exit; fi
      why='was preempted'
      ;;
    # An error that the user has to mend; after a step, storage was away.
    2) if [[ -z $has_trained ]]; then exit 2; fi ;;
    130) exit 130 ;; # Ctrl-C.
  esac
  if ((restarts == ${MAX_RESTARTS:-20})); then
    echo "$why, for the last time: MAX_RESTARTS is $restarts" >&2
    exit $((status ? status : 1))
  fi
  echo "$why: starts again" >&2
  sleep "${PAUSE_SECONDS:-10}"
done
