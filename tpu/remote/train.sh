# Trains, and starts again what was cut off: it goes on from its checkpoint.
#
# The arguments are those of `musiclm train`. If a host dies, the others end soon
# after, and all meet again here. A preempted job has saved, and ends with status
# 0, too, but without the line that says it is done.
set -euo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT
for ((restarts = 0; ; restarts++)); do
  status=0
  ~/musiclm/venv/bin/musiclm train --distributed "$@" | tee "$log" ||
    status=${PIPESTATUS[0]}
  why="ended with status $status"
  case $status in
    0)
      if grep -q ': done at step ' "$log"; then exit; fi
      why='was preempted'
      ;;
    # An error that the user has to mend; Ctrl-C.
    2 | 130) exit $status ;;
  esac
  if ((restarts == ${MAX_RESTARTS:-20})); then
    echo "$why, for the last time: MAX_RESTARTS is $restarts" >&2
    exit $((status ? status : 1))
  fi
  echo "$why: starts again" >&2
  sleep "${PAUSE_SECONDS:-10}"
done
