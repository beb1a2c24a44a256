#!/bin/sh
# Prints the path of Helm of a pinned version, and builds it from its Go module first where the cache has none.
# Called by the Makefile and by the tests of the chart (e2e/tests/chart). Nothing goes into the tree.
set -eu

version=4.3.1
cache=${YELLOWJACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/yellowjack}
folder=$cache/tools/helm-$version
binary=$folder/bin/helm

say() { echo "helm: $*" >&2; }

if [ -x "$binary" ]; then
    echo "$binary"
    exit 0
fi

# The Go toolchain's own folder is often missing from PATH in scripts.
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null 2>&1; then
    say "Helm $version is built with Go, which is not here."
    say "hint: install Go 1.26 or later (https://go.dev/dl)"
    exit 1
fi

mkdir -p "$folder"
# One build at a time; whoever waited finds the file of the one that built.
exec 9>"$folder/build.lock"
flock 9
if [ ! -x "$binary" ]; then
    say "building Helm $version into $folder (some minutes, once)"
    part=$folder/part.$$
    trap 'rm -rf "$part"' EXIT
    # From outside the tree, so that no go.mod is used.
    cd "$folder"
    unset GOFLAGS
    GOBIN=$part CGO_ENABLED=0 nice -n 10 go install -trimpath -ldflags "-s -w" \
        "helm.sh/helm/v4/cmd/helm@v$version" >&2
    mkdir -p "$folder/bin"
    mv "$part/helm" "$binary"
fi
echo "$binary"
