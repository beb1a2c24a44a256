#!/bin/sh
# Packs a folder into a container image that `ctr images import` takes: no registry, no daemon.
#
# usage: image.sh NAME:TAG ROOT_FOLDER OUTPUT.tar ENTRYPOINT [ARGUMENT...]
set -eu

[ "$#" -ge 4 ] || { sed -n 's/^# usage/usage/p' "$0" >&2; exit 2; }
name=$1 root=$2 output=$3 entrypoint=$4
shift 4
tag=${name##*:}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umoci init --layout "$work/layout" >/dev/null
umoci new --image "$work/layout:$tag" >/dev/null
umoci insert --image "$work/layout:$tag" "$root" / >/dev/null
umoci config --image "$work/layout:$tag" --config.entrypoint "$entrypoint" >/dev/null
for argument in "$@"; do
    umoci config --image "$work/layout:$tag" --config.cmd "$argument" >/dev/null
done
umoci config --image "$work/layout:$tag" --config.env PATH=/bin:/sbin:/usr/bin:/usr/sbin >/dev/null
# containerd takes an image's whole name from the layout's index.
sed -i "s|\"org.opencontainers.image.ref.name\":\"$tag\"|\"org.opencontainers.image.ref.name\":\"$name\"|" \
    "$work/layout/index.json"
umoci gc --layout "$work/layout" >/dev/null 2>&1 || true
tar -C "$work/layout" -cf "$output" .
