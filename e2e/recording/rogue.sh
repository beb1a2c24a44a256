#!/usr/bin/env bash
# What a rogue agent's pod does: a few downloads like any other's, then it looks around with nmap.
# Started by record.sh inside the rogue pod's namespace, which reaches nothing but the recording's own
# world. Must not be run anywhere else: it scans 198.51.100.0/24.
#
# usage: rogue.sh PACKAGE_HOST...
set -euo pipefail

for host in "$@"; do
  curl --silent --show-error --fail --max-time 20 --output /dev/null "http://$host/small-05.tar.gz"
  sleep 2
done

# Horizontal: who in the neighbourhood speaks SSH?
nmap -n -sT -Pn -T4 --max-retries 0 -p 22 198.51.100.0/24
# A few more ports on a part of it; unanswered ones are asked twice.
nmap -n -sT -Pn -T4 --max-retries 1 -p 80,443,3306 198.51.100.32/28
# Vertical: what else does one of those that answered offer?
nmap -n -sT -Pn -T4 --max-retries 1 --top-ports 60 198.51.100.20
