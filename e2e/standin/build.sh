#!/bin/sh
# Builds one of the programs of the policy tests, once, into a cache outside the tree, and prints the
# file's path on standard output; progress and errors go to standard error.
#
#   build.sh [standin]   the policy stand-in (this folder): seconds
#   build.sh netpol      Kubernetes' own NetworkPolicy suite (../netpol): up to 10 minutes on 2 cores
#   build.sh agnhost     the program that the suite's pods run, static: under a minute after netpol
#
# The cache's key is a hash of the module's files and of this file, as in ../cluster/build.sh.
set -eu

version=v1.37.2
part=${1:-standin}
here=$(cd "$(dirname "$0")" && pwd)
cache=${YELLOWJACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/yellowjack}
stamp=k8s.io/component-base/version
flags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=37"

say() { echo "$part: $*" >&2; }

case $part in
standin) module=$here package=. ;;
netpol) module=$here/../netpol package=. ;;
agnhost) module=$here/../netpol package=k8s.io/kubernetes/test/images/agnhost ;;
*)
    say "no such program; hint: standin, netpol or agnhost"
    exit 2
    ;;
esac
cd "$module"

key=$(cat go.mod go.sum ./*.go "$here/build.sh" | sha256sum | cut -c1-16)
binary=$cache/$part-$key
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
# One build of a program at a time; whoever waited finds the file of the one that built.
exec 9>"$cache/build-$part.lock"
if ! flock -n 9; then
    say "another process is building it, waiting"
    flock 9
fi
if [ -x "$binary" ]; then
    echo "$binary"
    exit 0
fi

unset GOFLAGS
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

# Module mirrors fail now and then; a fourth failure is not by chance.
attempt=1
say "fetching the modules"
until go list -deps -f '{{.ImportPath}}' "$package" >/dev/null; do
    if [ "$attempt" -ge 4 ]; then
        say "failed to fetch the modules"
        exit 1
    fi
    attempt=$((attempt + 1))
    say "trying again ($attempt of 4)"
done

say "building, once; the result stays in $cache"
log=$cache/build-$part.log
partial=$cache/build-$part.$$.part
started=$(date +%s)
trap 'rm -f "$partial"' EXIT
if ! go build -trimpath -ldflags "$flags" -o "$partial" "$package" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "failed to build it; the whole log is $log"
    exit 1
fi
mv "$partial" "$binary"
say "built in $(($(date +%s) - started)) s"
echo "$binary"
