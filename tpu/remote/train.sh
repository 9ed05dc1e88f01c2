# Trains, and starts again what was cut off: it goes on from its checkpoint.
#
# The arguments are those of `musiclm train`. If a host dies, the others end soon
# after, and all meet again here.
set -euo pipefail

for ((restarts = 0; ; restarts++)); do
  status=0
  ~/musiclm/venv/bin/musiclm train --distributed "$@" || status=$?
  # All is done; an error that the user has to mend; Ctrl-C.
  case $status in 0 | 2 | 130) exit $status ;; esac
  if ((restarts == ${MAX_RESTARTS:-20})); then
    exit $status
  fi
  echo "ended with status $status: starts again" >&2
  sleep "${PAUSE_SECONDS:-10}"
done
