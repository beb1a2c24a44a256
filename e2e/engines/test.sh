#!/bin/sh
# Runs the scenarios of the node with a real network policy engine, and prints their rows and figures.
#
#   test.sh cilium|kube-router
#
# Called by `make e2e-cilium` and `make e2e-kube-router`, which have built the operator and the control plane. Where no node
# can run it says why in one line and passes; with CI=true it fails.
set -eu

engine=$1
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
with_node=$target/debug/with-node

if [ -n "${KUBECONFIG:-}" ]; then
    echo "skipped: $engine runs on a node of the tests' own; KUBECONFIG is set"
    exit 0
fi
"$cargo" build --locked -p yellowjack-e2e --bin with-node --bin containment-table
code=0
"$with_node" --check || code=$?
if [ "$code" = 3 ]; then exit 0; fi
if [ "$code" != 0 ]; then exit "$code"; fi

"$cargo" test --locked --no-run -p yellowjack-e2e --test scenarios
export YELLOWJACK_ENGINE="$engine"
rm -f "$target/e2e-logs/containment-$engine.jsonl"
failed=0
scenarios() { "$with_node" "$cargo" test --locked --offline -p yellowjack-e2e --test scenarios -- --nocapture --test-threads=1 "$@"; }
scenarios doctor:: kinds:: replicas:: scan:: tunnel:: || failed=$?
if [ "$engine" = cilium ]; then
    # Without the waits, and with identities that leave out the labels of Yellowjack.
    for flags in "--identity-max-jitter=0s --identity-change-grace-period=0s" \
        "--labels=k8s:app,k8s:k8s-app,k8s:io.kubernetes.pod.namespace,k8s:io.cilium.k8s.policy,reserved:.*"; do
        echo "Cilium with $flags"
        YELLOWJACK_CILIUM_FLAGS=$flags scenarios doctor:: || failed=$?
    done
fi
# What was measured is worth seeing where a scenario failed, too.
"$target/debug/containment-table" || failed=$?
exit "$failed"
