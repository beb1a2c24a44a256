#!/bin/sh
# Builds KWOK, which plays the kubelets of many nodes, once, into a cache outside the tree, and prints the file's path
# on standard output; progress and errors go to standard error. Called by the scale bench (../src/bin/bench_scale).
#
# The cache's key is a hash of go.mod, go.sum and this file, as in ../cluster/build.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${YELLOWJACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/yellowjack}
key=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" | sha256sum | cut -c1-16)
binary=$cache/kwok-$key

say() { echo "kwok: $*" >&2; }

if [ -x "$binary" ]; then
    echo "$binary"
    exit 0
fi

# The Go toolchain's own folder is often missing from PATH in scripts.
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null 2>&1; then
    say "it is built with Go, which is not here"
    say "hint: install Go 1.26 or later (https://go.dev/dl)"
    exit 1
fi

mkdir -p "$cache"
# One build at a time; whoever waited finds the file of the one that built.
exec 9>"$cache/build-kwok.lock"
if ! flock -n 9; then
    say "another process is building it, waiting"
    flock 9
fi
if [ ! -x "$binary" ]; then
    say "building it, once: some minutes on 2 cores; the result stays in $cache"
    part=$cache/kwok.$$.part
    trap 'rm -f "$part"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    cd "$here"
    unset GOFLAGS
    CGO_ENABLED=0 GOFLAGS=-buildvcs=false nice -n 10 go build -trimpath -o "$part" -ldflags "-s -w" \
        sigs.k8s.io/kwok/cmd/kwok >&2
    mv "$part" "$binary"
fi
echo "$binary"
