#!/bin/sh
# Builds a real network policy engine for the test node, once, into a folder of the cache outside the tree, and prints the
# folder's path on standard output; progress and errors go to standard error. The harness (e2e/src/node/engine.rs) calls this.
#
#   build.sh cilium        Cilium's agent and network plugin: 5 to 15 minutes on 2 cores
#   build.sh kube-router   kube-router: 2 to 5 minutes
#
# Everything comes from Go modules and Debian packages. The cache's key is a hash of the module's files and of this file.
set -eu

engine=${1:-}
here=$(cd "$(dirname "$0")" && pwd)
cache=${YELLOWJACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/yellowjack}

say() { echo "$engine: $*" >&2; }

case $engine in
# Cilium compiles its BPF programs when it starts, and wants clang 18 or later.
cilium) packages="clang-19 llvm-19" programs="/usr/bin/clang-19" ;;
kube-router) packages="ipset" programs="/usr/sbin/ipset" ;;
*)
    engine=engines
    say "no such engine; hint: cilium or kube-router"
    exit 2
    ;;
esac

for program in $programs; do
    [ -e "$program" ] && continue
    if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
        say "missing $program; on Debian, as root: apt-get install --no-install-recommends $packages"
        exit 1
    fi
    say "installing $packages"
    install() { DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq -y --no-install-recommends $packages >&2; }
    install || { apt-get update -qq >&2 && install; }
done

cd "$here/$engine"
key=$(cat go.mod go.sum "$here/build.sh" | sha256sum | cut -c1-16)
folder=$cache/$engine-$key
if [ -e "$folder/complete" ]; then
    echo "$folder"
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
# One build of an engine at a time; whoever waited finds the folder of the one that built.
exec 9>"$cache/build-$engine.lock"
if ! flock -n 9; then
    say "another process is building it, waiting"
    flock 9
fi
if [ -e "$folder/complete" ]; then
    echo "$folder"
    exit 0
fi

unset GOFLAGS
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

# Module mirrors fail now and then; a fourth failure is not by chance.
fetch() {
    attempt=1
    until go list -deps -f '{{.ImportPath}}' "$@" >/dev/null; do
        if [ "$attempt" -ge 4 ]; then
            say "failed to fetch the modules"
            exit 1
        fi
        attempt=$((attempt + 1))
        say "trying again ($attempt of 4)"
    done
}

build() {
    target=$1 package=$2 flags=$3
    if ! go build -trimpath -tags osusergo -ldflags "-s -w $flags" -o "$part/$target" "$package" >>"$log" 2>&1 9>&-; then
        tail -n 20 "$log" >&2
        say "failed to build it; the whole log is $log"
        exit 1
    fi
}

log=$cache/build-$engine.log
: >"$log"
part=$folder.part
rm -rf "$part"
mkdir -p "$part"
trap 'chmod -R u+w "$part" 2>/dev/null; rm -rf "$part"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
started=$(date +%s)
say "building, once; the result stays in $cache"
case $engine in
cilium)
    module=github.com/cilium/cilium
    fetch $module/daemon $module/plugins/cilium-cni
    version=$(go list -m -f '{{.Version}}' $module)
    stamp="-X $module/pkg/version.ciliumVersion=${version#v}"
    build cilium-agent $module/daemon "$stamp"
    build cilium-cni $module/plugins/cilium-cni "$stamp"
    source=$(go list -m -f '{{.Dir}}' $module)
    mkdir -p "$part/lib"
    cp -R "$source/bpf" "$part/lib/bpf"
    cp -R "$source/pkg/k8s/apis/cilium.io/client/crds" "$part/crds"
    chmod -R u+w "$part"
    # The agent looks for a program of this name.
    ln -s /usr/bin/clang-19 "$part/clang"
    ;;
kube-router)
    module=github.com/cloudnativelabs/kube-router/v2
    fetch $module/cmd/kube-router
    build kube-router $module/cmd/kube-router ""
    ;;
esac
touch "$part/complete"
rm -rf "$folder"
mv "$part" "$folder"
say "built in $(($(date +%s) - started)) s"
echo "$folder"
