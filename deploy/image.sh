#!/bin/sh
# Builds the image without a daemon, a base image or root: a static binary and nothing else, as an OCI archive that
# `ctr images import` and `skopeo copy oci-archive:...` take. Needs umoci, and the musl target of Rust. The Containerfile
# makes the same for several platforms.
#
# usage: deploy/image.sh NAME:TAG OUTPUT.tar [BINARY]
#   BINARY: a static binary to pack instead of building one
set -eu

[ "$#" -ge 2 ] || { sed -n 's/^# usage/usage/p' "$0" >&2; exit 2; }
name=$1 output=$2 binary=${3:-}
tag=${name##*:}
here=$(cd "$(dirname "$0")/.." && pwd)

say() { echo "image: $*" >&2; }

if ! command -v umoci >/dev/null 2>&1; then
    say "umoci is not here; on Debian: apt-get install umoci"
    exit 1
fi

case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) say "no build for $(uname -m)"; exit 1 ;;
esac

if [ -z "$binary" ]; then
    target=$(uname -m)-unknown-linux-musl
    cd "$here"
    rustup target add "$target" >&2
    # Cargo's C code (ring) needs no library, so that the system's compiler does where musl-gcc is missing.
    variable=CC_$(echo "$target" | tr - _)
    command -v musl-gcc >/dev/null 2>&1 || export "$variable=${CC:-cc}"
    cargo build --locked --release --target "$target" --bin yellowjack >&2
    binary=${CARGO_TARGET_DIR:-target}/$target/release/yellowjack
fi
# In an empty image there is no loader that a dynamic binary could use.
if ldd "$binary" >/dev/null 2>&1 && ! ldd "$binary" 2>&1 | grep -q "statically linked"; then
    say "$binary is not static"
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/image"
install -m 0755 "$binary" "$work/image/yellowjack"
# The same binary makes the same image.
epoch=1970-01-01T00:00:00Z
touch -d @0 "$work/image" "$work/image/yellowjack"

umoci init --layout "$work/layout" >/dev/null
umoci new --image "$work/layout:$tag" >/dev/null
umoci insert --rootless --history.created "$epoch" --image "$work/layout:$tag" "$work/image/yellowjack" /yellowjack >/dev/null
umoci config --history.created "$epoch" --image "$work/layout:$tag" --created "$epoch" \
    --architecture "$architecture" --os linux \
    --config.user 65532:65532 --config.entrypoint /yellowjack \
    --config.label org.opencontainers.image.title=yellowjack \
    --config.label org.opencontainers.image.licenses=Apache-2.0 >/dev/null
# containerd takes an image's whole name from the layout's index.
sed -i "s|\"org.opencontainers.image.ref.name\":\"$tag\"|\"org.opencontainers.image.ref.name\":\"$name\"|" \
    "$work/layout/index.json"
umoci gc --layout "$work/layout" >/dev/null 2>&1 || true
tar -C "$work/layout" -cf "$output" .
bytes=$(du -b "$output" | cut -f1)
awk -v bytes="$bytes" 'BEGIN { printf "figure image.size %.1f MiB\n", bytes / 1048576 }'
