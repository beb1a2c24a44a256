#!/usr/bin/env bash
# Checks a release of deploy/release.sh, offline: the signature of SHA256SUMS, the checksums of all files, that the provenance
# names exactly these files and images, and for each image that it has no base, that its binary is the one beside it, and that
# its bill of materials is the one beside it and names the image's digest. Runs nothing of the release. Needs jq, and minisign
# for the signature. Called by `make verify`, deploy/release.sh and tests/release.rs.
#
# usage: deploy/verify.sh FOLDER
#
# PUBLIC_KEY: file with the public key of minisign. Without it the signature is not checked, and that is printed.
set -euo pipefail
shopt -s inherit_errexit nullglob dotglob
export LC_ALL=C

[ "$#" = 1 ] || { sed -n 's/^# usage/usage/p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1%/}

# What a release contains is not trusted: none of it may steer the terminal.
say() { printf 'verify: %s\n' "$*" | tr -cd '[:print:]\n' >&2; }
fail() { say "REFUSED: $*"; exit 1; }

# What to do with a release that does not fit together.
readonly DISCARD='do not install this release: get all of its files again, from the place that the maintainers name'

# All files of an image but folders: what deploy/image.sh packs. A base image would bring others.
readonly IMAGE_FILES='etc/ssl/certs/ca-certificates.crt
usr/share/yellowjack/sbom.cdx.json
yellowjack'

hash_of() { sha256sum "$1" | cut -c1-64; }

check_signature() {
    local sums=$folder/SHA256SUMS signed found
    if [ -z "${PUBLIC_KEY:-}" ]; then
        say "SIGNATURE NOT CHECKED: PUBLIC_KEY names no key. Checksums alone show damage, not who made the release; give the public key of its maintainers: PUBLIC_KEY=yellowjack.pub"
        return
    fi
    command -v minisign >/dev/null || fail "wanted minisign, which checks the signature, found none: on Debian: apt-get install minisign"
    [ -r "$PUBLIC_KEY" ] || fail "PUBLIC_KEY: wanted a file with a public key of minisign, found none at '$PUBLIC_KEY': give its path"
    [ -f "$sums.minisig" ] || fail "$sums.minisig: wanted a signature of SHA256SUMS by the key in $PUBLIC_KEY, found none: $DISCARD"
    found=$(minisign -V -p "$PUBLIC_KEY" -m "$sums" 2>&1) || fail "$sums.minisig: wanted a signature of SHA256SUMS by the key in $PUBLIC_KEY, found another one ($(tail -n 1 <<<"$found")): $DISCARD"
    signed=$(sed -n 's/^Trusted comment: //p' <<<"$found")
    say "signature: by the key in $PUBLIC_KEY: $signed"
}

check_sums() {
    local wanted name names found file line
    while IFS= read -r line; do
        [[ $line =~ ^[0-9a-f]{64}\ \ [A-Za-z0-9][A-Za-z0-9._-]*$ ]] || fail "SHA256SUMS: wanted lines 'DIGEST  NAME', found '$line': $DISCARD"
        wanted=${line%% *} name=${line##* }
        [ -f "$folder/$name" ] || fail "$name: wanted a file with SHA-256 $wanted, as SHA256SUMS has it, found none: $DISCARD"
        found=$(hash_of "$folder/$name")
        [ "$found" = "$wanted" ] || fail "$name: wanted SHA-256 $wanted, as SHA256SUMS has it, found $found: $DISCARD"
        sums[$name]=$wanted
    done <"$folder/SHA256SUMS"
    names=$(printf '%s\n' "${!sums[@]}")
    for file in "$folder"/*; do
        name=${file##*/}
        case $name in SHA256SUMS | SHA256SUMS.minisig) continue ;; esac
        # Not `${sums[$name]}`: a file may be called "@". No pipe either: grep ends it with the first match.
        grep -qxF -- "$name" <<<"$names" || fail "$name: wanted the files of SHA256SUMS and no other, found this one: remove it if you put it there; else $DISCARD"
    done
    say "checksums: ${#sums[@]} files"
}

# The provenance has a subject for each file and each image, with the same digest, and no other.
check_provenance() {
    local wanted found name difference
    wanted=$(
        for name in "${!sums[@]}"; do [ "$folder/$name" = "$provenance" ] || echo "$name ${sums[$name]}"; done
        for name in "${!digests[@]}"; do echo "yellowjack:$version linux/$name ${digests[$name]#sha256:}"; done
    )
    found=$(jq -r '.subject[] | .name + " " + .digest.sha256' "$provenance") || fail "${provenance##*/}: wanted subjects with name and SHA-256, found none: $DISCARD"
    difference=$(diff <(sort <<<"$wanted") <(sort <<<"$found") | sed -n 's/^</wanted/p; s/^>/found/p') || true
    [ -z "$difference" ] || fail "${provenance##*/}: wanted the digests of all files and images, found others: $(paste -sd, <<<"$difference"): $DISCARD"
    say "provenance: ${#sums[@]} files and ${#digests[@]} images, of revision $revision, profile $(jq -r .predicate.buildDefinition.externalParameters.profile "$provenance")"
}

# Prints the path of a blob of an image, by its digest in the JSON file that names it.
blob() {
    local name=$1 layout=$2 digest found
    digest=$(jq -r "$4" "$3")
    [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || fail "$name: wanted one SHA-256 at $4, found '$digest': $DISCARD"
    [ -f "$layout/blobs/sha256/${digest#sha256:}" ] || fail "$name: wanted the blob $digest, found none: $DISCARD"
    found=$(hash_of "$layout/blobs/sha256/${digest#sha256:}")
    [ "$digest" = "sha256:$found" ] || fail "$name: wanted a blob with the digest $digest, found sha256:$found: $DISCARD"
    echo "$layout/blobs/sha256/${digest#sha256:}"
}

check_image() {
    local architecture=$1 name=yellowjack-$version-$1.tar layout=$work/$1 one manifest config layer found binary
    mkdir "$layout"
    tar -xf "$folder/$name" -C "$layout" --no-same-owner || fail "$name: wanted an OCI archive, found another file: $DISCARD"
    one='if length == 1 then .[0].digest else "\(length) of them" end'
    manifest=$(blob "$name" "$layout" "$layout/index.json" ".manifests | $one")
    config=$(blob "$name" "$layout" "$manifest" .config.digest)
    # One layer: the image has no base, so what is in it is what was built.
    layer=$(blob "$name" "$layout" "$manifest" ".layers | $one")
    found=$(tar -tzf "$layer" | grep -v '/$' | sort)
    [ "$found" = "$IMAGE_FILES" ] || fail "$name: wanted the files $(paste -sd' ' <<<"$IMAGE_FILES"), found $(paste -sd' ' <<<"$found"): $DISCARD"
    found=$(jq -r '.architecture + " " + .config.Labels["org.opencontainers.image.revision"]' "$config")
    [ "$found" = "$architecture $revision" ] || fail "$name: wanted an image for $architecture of revision $revision, as the provenance has it, found $found: $DISCARD"

    found=$(tar -xzOf "$layer" etc/ssl/certs/ca-certificates.crt | sha256sum | cut -c1-64)
    [ "$found" = "$authorities" ] || fail "$name: wanted ca-certificates.crt with SHA-256 $authorities, as the provenance has it, found $found: $DISCARD"
    binary=${name%.tar}
    found=$(tar -xzOf "$layer" yellowjack | sha256sum | cut -c1-64)
    [ "$found" = "${sums[$binary]:-no file}" ] || fail "$name: wanted the binary $binary with SHA-256 ${sums[$binary]:-(no such file)}, found $found in the image: $DISCARD"
    digests[$architecture]=sha256:${manifest##*/}
    tar -xzOf "$layer" usr/share/yellowjack/sbom.cdx.json |
        jq -S --arg digest "${digests[$architecture]}" --arg architecture "$architecture" --arg version "$version" \
            -f "$here/deploy/bill.jq" >"$layout/bill" || fail "$name: wanted a bill of materials in it, found none that can be read: $DISCARD"
    check_bill "$binary.cdx.json" "$layout/bill" "${digests[$architecture]}"
    say "image: $name is ${digests[$architecture]}, one layer, no base; its binary and bill of materials are those beside it"
}

# The bill beside the image is the one in the image, and names the image.
check_bill() {
    local name=$1 wanted=$2 digest=$3 found
    [ -n "${sums[$name]:-}" ] || fail "$name: wanted the bill of materials of the image, found none: $DISCARD"
    found=$(jq -r '"sha256:" + (.metadata.component.hashes[0].content // "none")' "$folder/$name") || found="no JSON"
    [ "$found" = "$digest" ] || fail "$name: wanted a bill of materials of the image $digest, found one of $found: $DISCARD"
    cmp -s "$folder/$name" "$wanted" || fail "$name: wanted the bill of materials that the image has in it, found other components: $DISCARD"
}

command -v jq >/dev/null || fail "wanted jq, found none: on Debian: apt-get install jq"
[ -f "$folder/SHA256SUMS" ] || fail "$folder: wanted a folder with a release and its SHA256SUMS, found none: make release makes one in target/dist"
declare -A sums digests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

check_signature
check_sums
provenance=$(find "$folder" -maxdepth 1 -name 'yellowjack-*.provenance.json')
[ -f "$provenance" ] || fail "$folder: wanted one file yellowjack-VERSION.provenance.json, found '$provenance': $DISCARD"
read -r version revision architectures < <(jq -r '.predicate.buildDefinition.externalParameters | "\(.version) \(.revision) \(.architectures | join(" "))"' "$provenance") || fail "${provenance##*/}: wanted version, revision and architectures, found others: $DISCARD"
[ "${provenance##*/}" = "yellowjack-$version.provenance.json" ] || fail "${provenance##*/}: wanted the provenance of that version, found one of $version: $DISCARD"
authorities=$(jq -r '.predicate.buildDefinition.resolvedDependencies[] | select(.name == "ca-certificates.crt").digest.sha256' "$provenance")
[ -n "$architectures" ] || fail "${provenance##*/}: wanted the architectures of the images, found none: $DISCARD"
for architecture in $architectures; do
    [ -n "${sums[yellowjack-$version-$architecture.tar]:-}" ] || fail "yellowjack-$version-$architecture.tar: wanted the image that the provenance names, found none: $DISCARD"
    check_image "$architecture"
done
check_provenance
say "ACCEPTED: yellowjack $version, revision $revision, for $architectures"
