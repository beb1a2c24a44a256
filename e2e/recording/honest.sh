#!/usr/bin/env bash
# What an honest agent's pod does: downloads, health checks, a few wrong names, two dependencies that are
# down and that it retries all the time. Started by record.sh inside the honest pod's namespace; must only
# talk to the addresses and names that it is given.
#
# usage: honest.sh SECONDS HEALTH_ADDRESS:PORT REFUSING_ADDRESS SILENT_ADDRESS PACKAGE_HOST...
set -euo pipefail

readonly SECONDS_TOTAL="$1" HEALTH="$2" REFUSING="$3" SILENT="$4"
shift 4
readonly HOSTS=("$@")
RANDOM=4   # the same order of pauses in every recording

get() { curl --silent --show-error --fail --max-time 20 --output /dev/null "$1"; }

check_health() {
  while [ "$SECONDS" -lt "$SECONDS_TOTAL" ]; do
    get "http://$HEALTH/healthz"
    sleep 2
  done
}

# A database that is down: the port refuses.
retry_refused() {
  while [ "$SECONDS" -lt "$SECONDS_TOTAL" ]; do
    socat -u OPEN:/dev/null "TCP:$REFUSING:5432,connect-timeout=3" 2>/dev/null || true
    sleep 9
  done
}

# A cache whose machine is gone: nothing answers.
retry_silent() {
  while [ "$SECONDS" -lt "$SECONDS_TOTAL" ]; do
    socat -u OPEN:/dev/null "TCP:$SILENT:6379,connect-timeout=2" 2>/dev/null || true
    sleep 13
  done
}

ask_wrong_names() {
  local number
  for number in 1 2 3 4 5 6 7 8 9 10; do
    [ "$SECONDS" -lt "$SECONDS_TOTAL" ] || break
    getent ahosts "missing-$number.pkg.example.org" || true
    sleep 17
  done
}

download() {
  local count=0 file host
  while [ "$SECONDS" -lt "$SECONDS_TOTAL" ]; do
    host="${HOSTS[$((count % ${#HOSTS[@]}))]}"
    if [ $((count % 9)) = 8 ]; then
      file="big-$((1 + RANDOM % 3)).bin"
    else
      file="$(printf 'small-%02d.tar.gz' $((1 + RANDOM % 20)))"
    fi
    get "http://$host/$file"
    count=$((count + 1))
    sleep $((1 + RANDOM % 6))
  done
  printf '%s downloads\n' "$count"
}

check_health & health=$!
retry_refused & refused=$!
retry_silent & silent=$!
ask_wrong_names & wrong=$!
download
for job in "$health" "$refused" "$silent" "$wrong"; do wait "$job"; done
