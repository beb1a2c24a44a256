#!/usr/bin/env bash
# Builds the image without a daemon, a base image or root: a static binary, the authorities that TLS trusts, and the
# list of what the binary is made of. An OCI archive comes out, which `ctr images import` and `skopeo copy oci-archive:...`
# take, and beside it the binary (OUTPUT) and the software bill of materials of the image (OUTPUT.cdx.json, CycloneDX). Needs
# umoci, jq and ca-certificates; Rust's target for musl is added. The same source, compiler, umoci and authorities make the
# same bytes, wherever the source and Cargo's folders are. Called by `make image`, `make release` and `make e2e-install`.
#
# usage: deploy/image.sh NAME:TAG OUTPUT.tar [amd64|arm64]
#
# IMAGE_PROFILE (release): the profile of Cargo; image-test is built sooner. Cargo's files go to the cache and are used
# again. SOURCE_DATE_EPOCH (the time of the last commit): the only time in the image. IMAGE_BINARY and IMAGE_BILL: files to
# pack in place of what a build makes, for tests of a release.
set -euo pipefail
# A build that failed must not be taken for the binary of an earlier one.
shopt -s inherit_errexit

[ "$#" -ge 2 ] || { sed -n 's/^# usage/usage/p' "$0" >&2; exit 2; }
name=$1 output=$2
tag=${name##*:}
here=$(cd "$(dirname "$0")/.." && pwd)
profile=${IMAGE_PROFILE:-release}
case $output in /*) ;; *) output=$PWD/$output ;; esac

say() { echo "image: $*" >&2; }
fail() { say "$*"; exit 1; }

case ${3:-$(uname -m)} in
    x86_64 | amd64) architecture=amd64 machine=x86_64 ;;
    aarch64 | arm64) architecture=arm64 machine=aarch64 ;;
    *) fail "no build for ${3:-$(uname -m)}" ;;
esac
target=$machine-unknown-linux-musl
authorities=/etc/ssl/certs/ca-certificates.crt

for tool in umoci jq; do
    command -v "$tool" >/dev/null || fail "$tool is not here; on Debian: apt-get install $tool"
done
[ -s "$authorities" ] || fail "$authorities is not here; on Debian: apt-get install ca-certificates"

# Prints the path of the binary. Progress goes to standard error.
build() {
    cd "$here"
    local cargo_home=${CARGO_HOME:-$HOME/.cargo} settings RUSTFLAGS=
    export CARGO_TARGET_DIR=${IMAGE_TARGET_DIR:-${YELLOWJACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/yellowjack}/image-target}
    # Panics name files, of crates, of what build scripts wrote and of Rust's own library. Where a machine keeps them differs.
    local paths=("$here=/source" "$CARGO_TARGET_DIR=/target" "$cargo_home=/cargo" "$(rustc --print sysroot)=/rust") flags="" path
    for path in "${paths[@]}"; do
        RUSTFLAGS+=${RUSTFLAGS:+ }--remap-path-prefix=$path
        flags+=" -ffile-prefix-map=$path"
    done
    export RUSTFLAGS "CFLAGS_${target//-/_}=$flags"
    settings=$(tr a-z- A-Z_ <<<"CARGO_TARGET_${target}_LINKER")
    # Cargo's C code (ring) needs no library, so that any C compiler for the architecture does.
    if [ "$machine" = "$(uname -m)" ]; then
        command -v musl-gcc >/dev/null || export "CC_${target//-/_}=${CC:-cc}"
    else
        command -v "$machine-linux-gnu-gcc" >/dev/null || fail "a C compiler for $machine is not here; on Debian: apt-get install gcc-${machine/_/-}-linux-gnu libc6-dev-$architecture-cross"
        export "CC_${target//-/_}=$machine-linux-gnu-gcc" "$settings=rust-lld"
    fi
    rustup target list --installed | grep -qx "$target" || rustup target add "$target" >&2
    local auditable
    auditable=$(.ci/tools cargo-auditable)
    PATH=$(dirname "$auditable"):$PATH
    cargo auditable build --locked --profile "$profile" --target "$target" --bin yellowjack >&2
    echo "$CARGO_TARGET_DIR/$target/$profile/yellowjack"
}

binary=${IMAGE_BINARY:-$(build)}
if [ -z "${IMAGE_BINARY:-}" ]; then
    # In an empty image there is no loader that a dynamic binary could use.
    headers=$(readelf -l "$binary")
    if grep -q INTERP <<<"$headers"; then fail "$binary is not static"; fi
    for path in "$here" "${binary%"/$target/"*}" "${CARGO_HOME:-$HOME/.cargo}" "$(rustc --print sysroot)"; do
        if grep -qaF "$path/" "$binary"; then fail "$binary: wanted no path of this machine in it, found $path: add it to the paths that are remapped in $0"; fi
    done
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
install -D -m 0755 "$binary" "$root/yellowjack"
install -D -m 0644 "$authorities" "$root/etc/ssl/certs/ca-certificates.crt"
mkdir -p "$root/usr/share/yellowjack"
if [ -n "${IMAGE_BILL:-}" ]; then
    cp "$IMAGE_BILL" "$root/usr/share/yellowjack/sbom.cdx.json"
else
    bill=$(cd "$here" && .ci/tools auditable2cdx)
    "$bill" "$binary" >"$root/usr/share/yellowjack/sbom.cdx.json"
fi
chmod 0644 "$root/usr/share/yellowjack/sbom.cdx.json"

revision=$(git -C "$here" describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/Cargo.toml" | head -n 1)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 0)}
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
find "$root" -type d -exec chmod 0755 {} +
pack() { tar -C "$1" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --mode=u=rwX,go=rX --owner=0 --group=0 --numeric-owner --format=gnu -cf "$2" "${@:3}"; }

layout=$work/layout
umoci init --layout "$layout" >/dev/null
umoci new --image "$layout:$tag" >/dev/null
# Not `umoci insert`: version 0.4 leaves the end of the archive out, which containerd forgives and others do not.
pack "$root" "$work/layer.tar" etc usr yellowjack
umoci raw add-layer --history.created "$created" --history.created_by deploy/image.sh --image "$layout:$tag" "$work/layer.tar" >/dev/null
umoci config --history.created "$created" --image "$layout:$tag" --created "$created" \
    --architecture "$architecture" --os linux \
    --config.user 65532:65532 --config.entrypoint /yellowjack \
    --config.label org.opencontainers.image.title=yellowjack \
    --config.label "org.opencontainers.image.description=Keeps AI-agent runs inside their limits, and contains what scans and mines." \
    --config.label org.opencontainers.image.licenses=Apache-2.0 \
    --config.label org.opencontainers.image.url=https://yellowjack.dev \
    --config.label "org.opencontainers.image.version=$version" \
    --config.label "org.opencontainers.image.revision=$revision" \
    --config.label "org.opencontainers.image.created=$created" \
    --config.label dev.yellowjack.sbom=/usr/share/yellowjack/sbom.cdx.json >/dev/null
# containerd takes an image's whole name from the layout's index.
sed -i "s|\"org.opencontainers.image.ref.name\":\"$tag\"|\"org.opencontainers.image.ref.name\":\"$name\"|" "$layout/index.json"
umoci gc --layout "$layout" >/dev/null 2>&1 || true

mkdir -p "$(dirname "$output")"
pack "$layout" "$output" .
digest=$(jq -r '.manifests[0].digest' "$layout/index.json")
install -m 0755 "$binary" "${output%.tar}"
jq -S --arg digest "$digest" --arg architecture "$architecture" --arg version "$version" -f "$here/deploy/bill.jq" \
    "$root/usr/share/yellowjack/sbom.cdx.json" >"${output%.tar}.cdx.json"
say "$output: $architecture, profile ${IMAGE_BINARY:+of a given binary, not }$profile, $digest"
if [ "$profile" = release ]; then
    find "$layout/blobs" -type f -printf '%s\n' | awk '{ bytes += $1 } END { printf "figure image.size %.1f MiB\n", bytes / 1048576 }'
fi
