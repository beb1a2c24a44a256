#!/bin/sh
# Runs all tests of the real node, one after the other, and prints the table of docs/containment.md.
# Called by `make e2e-node`, which has built the operator and the control plane.
#
# Where no node can run it says why in one line and passes; with CI=true it fails. With KUBECONFIG set
# the scenarios that make sense on a cluster that is not ours run there, and the others say why not.
# YELLOWJACK_NETPOL_SUITE=0 leaves out Kubernetes' own suite for the policy stand-in, whose build takes ten minutes.
set -eu

cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
with_node=$target/debug/with-node

scenarios() { "$@" "$cargo" test --locked --offline -p yellowjack-e2e --test scenarios -- --nocapture --test-threads=1; }

if [ -n "${KUBECONFIG:-}" ]; then
    scenarios env
    exit
fi

"$cargo" build --locked -p yellowjack-e2e --bin with-node --bin containment-table
code=0
"$with_node" --check || code=$?
if [ "$code" = 3 ]; then exit 0; fi
if [ "$code" != 0 ]; then exit "$code"; fi

# Inside the node there is no way to a Go proxy.
parts=standin
if [ "${YELLOWJACK_NETPOL_SUITE:-1}" != 0 ]; then parts="standin netpol agnhost"; fi
for part in $parts; do e2e/standin/build.sh "$part" >/dev/null; done

"$cargo" test --locked --no-run -p yellowjack-e2e --test node --test node_teardown --test scenarios
# Each program runs, whatever the one before found.
failed=0
YELLOWJACK_NODE_TESTS=1 "$cargo" test --locked -p yellowjack-e2e --test node_teardown -- --nocapture --test-threads=1 || failed=$?
"$with_node" "$cargo" test --locked --offline -p yellowjack-e2e --test node -- --nocapture || failed=$?
rm -f "$target/e2e-logs/containment.jsonl"
scenarios "$with_node" || failed=$?
# What was measured is worth seeing where a scenario failed, too.
"$target/debug/containment-table" || failed=$?
exit "$failed"
