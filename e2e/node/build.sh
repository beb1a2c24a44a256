#!/bin/sh
# Builds what a test node needs beside Kubernetes itself (e2e/cluster), once, into a folder of the
# cache outside the tree, and prints the folder's path on standard output; progress and errors go to
# standard error. The harness (e2e/src/node) calls this.
#
# The folder holds containerd, its shim and ctr, the toolbox, the image of the test pods (toolbox.tar)
# and the key that opens the SSH server of the test network (tunnel_key). Everything comes from Go
# modules and Debian packages; no image registry is asked.
#
# The cache's key is a hash of the sources and of the versions of the programs that go into the image.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${YELLOWJACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/yellowjack}
image=yellowjack.test/toolbox:test

say() { echo "node: $*" >&2; }

# A file of each Debian package that is needed. Packages whose installation would start a service
# are avoided: dnsmasq-base and dropbear-bin have programs only.
needed="
/usr/bin/umoci umoci
/usr/sbin/runc runc
/usr/lib/cni/ptp containernetworking-plugins
/bin/busybox busybox-static
/usr/sbin/ulogd ulogd2
/usr/sbin/conntrack conntrack
/usr/sbin/iptables iptables
/usr/sbin/nft nftables
/usr/sbin/ip iproute2
/usr/sbin/dnsmasq dnsmasq-base
/usr/sbin/dropbear dropbear-bin
/usr/bin/nmap nmap
/usr/bin/socat socat
"

install_packages() {
    missing=
    while read -r file package; do
        [ -z "$file" ] || [ -e "$file" ] || missing="$missing $package"
    done <<LIST
$needed
LIST
    [ -n "$(find /usr/lib -name ulogd_output_JSON.so 2>/dev/null | head -n 1)" ] || missing="$missing ulogd2-json"
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
        say "missing programs; on Debian, as root: apt-get install --no-install-recommends$missing"
        exit 1
    fi
    say "installing$missing"
    if ! apt_install $missing; then
        apt-get update -qq >&2
        apt_install $missing
    fi
}

# In run level 1 packages start no service: the test node runs its own ulogd.
apt_install() {
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -qq -y --no-install-recommends "$@" >&2
}

key() {
    cd "$here"
    {
        cat go.mod go.sum build.sh image.sh toolbox/*.go
        dpkg-query -W busybox-static nmap socat dropbear-bin dnsmasq-base 2>/dev/null || true
    } | sha256sum | cut -c1-16
}

# Module mirrors fail now and then; a fourth failure is not by chance.
fetch_modules() {
    attempt=1
    until go mod download; do
        [ "$attempt" -lt 4 ] || { say "failed to fetch the modules"; exit 1; }
        attempt=$((attempt + 1))
        say "trying again ($attempt of 4)"
    done
}

# A program with the libraries that it loads, at the same paths below $root.
add_program() {
    mkdir -p "$root$(dirname "$1")"
    cp -L "$1" "$root$1"
    ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        [ -e "$root$library" ] || cp -L "$library" "$root$library"
    done
}

build_image() {
    root=$part/root
    mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/usr/share/nmap" "$root/root"
    cp /bin/busybox "$root/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    cp "$part/toolbox" "$root/bin/toolbox"
    for program in /usr/bin/nmap /usr/bin/socat /usr/bin/dbclient /usr/sbin/dnsmasq; do add_program "$program"; done
    for file in nmap-services nmap-protocols nmap-payloads; do
        cp "/usr/share/nmap/$file" "$root/usr/share/nmap/"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000:agent:/tmp:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nagent:x:1000:\n' >"$root/etc/group"
    cp "$part/tunnel_key" "$root/etc/tunnel_key"
    "$here/image.sh" "$image" "$root" "$part/toolbox.tar" /bin/toolbox pause
    rm -rf "$root"
}

mkdir -p "$cache"
install_packages
folder=$cache/node-$(key)
if [ -e "$folder/toolbox.tar" ]; then
    echo "$folder"
    exit 0
fi

# The Go toolchain's own folder is often missing from PATH in scripts.
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null 2>&1; then
    say "a test node is built with Go, which is not here."
    say "hint: install Go 1.26 or later (https://go.dev/dl)."
    exit 1
fi

# One build at a time; whoever waited finds the folder of the one that built.
exec 9>"$cache/build-node.lock"
if ! flock -n 9; then
    say "another process is building it, waiting"
    flock 9
fi
if [ -e "$folder/toolbox.tar" ]; then
    echo "$folder"
    exit 0
fi

part=$folder.part
rm -rf "$part"
mkdir -p "$part"
trap 'rm -rf "$part"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$here"
unset GOFLAGS
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false
started=$(date +%s)
say "building containerd and the test image, once: about two minutes on 2 cores"
fetch_modules >&2
version=$(go list -m -f '{{.Version}}' github.com/containerd/containerd/v2)
go build -trimpath -tags 'no_btrfs no_zfs no_devmapper' -o "$part/" \
    -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=${version#v}" \
    github.com/containerd/containerd/v2/cmd/containerd \
    github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 \
    github.com/containerd/containerd/v2/cmd/ctr ./toolbox 9>&- >&2
# The right to use the test network's SSH server; it guards nothing.
dropbearkey -t ed25519 -f "$part/tunnel_key" | grep '^ssh-' >"$part/tunnel_key.pub"
build_image >&2
# A folder of that name without an image is what an interrupted build of an older script left.
rm -rf "$folder"
mv "$part" "$folder"
say "built in $(($(date +%s) - started)) s"
echo "$folder"
