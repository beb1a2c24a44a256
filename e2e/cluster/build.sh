#!/bin/sh
# Builds the test control plane once, into a cache outside the tree, and prints the file's path on
# standard output; progress and errors go to standard error. The harness (e2e/src) calls this.
#
# The cache's key is a hash of go.mod, go.sum, main.go and this file: whatever changes the result
# makes a new file, and an unfinished build is never taken for a finished one.
set -eu

version=v1.37.2
minor=${version#v1.}
minor=${minor%%.*}
here=$(cd "$(dirname "$0")" && pwd)
cache=${YELLOWJACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/yellowjack}
key=$(cat "$here/go.mod" "$here/go.sum" "$here/main.go" "$here/build.sh" | sha256sum | cut -c1-16)
binary=$cache/cluster-$key

say() { echo "control plane: $*" >&2; }

if [ -x "$binary" ]; then
    echo "$binary"
    exit 0
fi

# The Go toolchain's own folder is often missing from PATH in scripts.
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null 2>&1; then
    say "the tests need a Kubernetes $version API server and build it with Go, which is not here."
    say "hint: install Go 1.26 or later (https://go.dev/dl), or set KUBECONFIG to a test cluster, or"
    say "hint: set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver."
    exit 1
fi

mkdir -p "$cache"
# One build at a time; whoever waited finds the file of the one that built.
exec 9>"$cache/build.lock"
if ! flock -n 9; then
    say "another process is building it, waiting"
    flock 9
fi
if [ -x "$binary" ]; then
    echo "$binary"
    exit 0
fi

cd "$here"
unset GOFLAGS
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

# Module mirrors fail now and then; a fourth failure is not by chance.
attempt=1
say "fetching the modules of Kubernetes $version"
until go list -deps -f '{{.ImportPath}}' . >"$cache/build.packages"; do
    if [ "$attempt" -ge 4 ]; then
        say "failed to fetch the modules"
        exit 1
    fi
    attempt=$((attempt + 1))
    say "trying again ($attempt of 4)"
done
total=$(wc -l <"$cache/build.packages")

say "building Kubernetes $version, once: 5 to 10 minutes on 2 cores; the result stays in $cache"
log=$cache/build.log
part=$cache/build.$$.part
started=$(date +%s)
builder=
trap 'rm -f "$part"; [ -z "$builder" ] || kill "$builder" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
go build -v -trimpath -o "$part" \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version \
        -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor" \
    . >"$log" 2>&1 9>&- &
builder=$!
while kill -0 "$builder" 2>/dev/null; do
    sleep 5
    # `go build -v` names a package when it starts to compile it; cached ones are not named.
    elapsed=$(($(date +%s) - started))
    if [ $((elapsed % 15)) -lt 5 ]; then
        say "$(wc -l <"$log") of at most $total packages, ${elapsed} s"
    fi
done
if ! wait "$builder"; then
    tail -n 20 "$log" >&2
    say "failed to build it; the whole log is $log"
    exit 1
fi
mv "$part" "$binary"
say "built in $(($(date +%s) - started)) s"
echo "$binary"
