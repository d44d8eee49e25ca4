#!/bin/sh
# Counts by HTTP: one add every INTERVAL seconds, through the sidecar.
#
# Each add has a token, made once and sent again with every retry: however often the add is sent, it counts once.
set -eu

name=${COUNTER_NAME:-curl}
interval=${INTERVAL:-1}
times=${TIMES:-0}
encoded() { jq --null-input --raw-output --arg text "$1" '$text | @uri'; }
counter="http://127.0.0.1:7777/v1/namespaces/$(encoded "${COUNTER_NAMESPACE:-video-plays}")/counters/$(encoded "$name")"

# A shell handles a signal between two commands: the request in flight is finished.
terminated=
trap 'terminated=yes' TERM INT

# Waits, but not longer than until SIGTERM.
pause() {
  if [ -z "$terminated" ]; then
    sleep "$1" &
    wait $! || true
  fi
}

# Sends a request until it is answered, or refused for a reason that sending it again does not mend. The body is in `reply`; `lost` says
# whether an attempt before was not answered, which may have been carried out all the same. The first word is `always`, or `until-end`:
# nothing is sent again after SIGTERM.
retried() {
  how=$1
  shift
  tenths=1
  lost=
  while true; do
    # The body, and in a line of its own the status, 000 where there is no answer; nothing of curl that was killed.
    reply=$(curl --silent --max-time 5 --write-out '\n%{http_code}' "$@") || true
    status=${reply##*
}
    reply=${reply%?"$status"}
    case $status in
      200) return 0 ;;
      '' | 000 | 503 | 504) lost=yes ;;
      429) ;;
      *) return 1 ;;
    esac
    if [ "$how" = until-end ] && [ -n "$terminated" ]; then return 1; fi
    sleep "$((tenths / 10)).$((tenths % 10))"
    tenths=$((tenths < 16 ? tenths * 2 : tenths))
  done
}

added=0
while [ -z "$terminated" ] && { [ "$times" -eq 0 ] || [ "$added" -lt "$times" ]; }; do
  read -r token </proc/sys/kernel/random/uuid
  generated=$(date --utc +%Y-%m-%dT%H:%M:%S.%6NZ)
  add="{\"delta\": 1, \"idempotencyToken\": {\"token\": \"$token\", \"generationTime\": \"$generated\"}}"
  if ! retried always --json "$add" "$counter:add"; then
    echo "$name was refused${lost:+, and an attempt before may have counted}: HTTP $status: $reply" >&2
  else
    added=$((added + 1))
    if retried until-end "$counter"; then
      # Zero is left out of replies.
      echo "$name added 1, count $(echo "$reply" | jq --raw-output '.count // "0"')"
    else
      echo "$name added 1, and was not told the count: HTTP $status: $reply" >&2
    fi
  fi
  pause "$interval"
done

if [ "${WHEN_DONE:-exit}" = sleep ]; then
  while [ -z "$terminated" ]; do pause 3600; done
fi
