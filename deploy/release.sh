#!/usr/bin/env bash
# Makes a release in FOLDER: for each architecture the image, its binary and its bill of materials, then the provenance of all
# of them (in-toto statement, SLSA provenance v1) and SHA256SUMS. Signs SHA256SUMS with minisign. The same commit, compiler,
# umoci and authorities make the same bytes. Each binary is started once, that of another architecture in qemu.
# Called by `make release` and by tests/release.rs; deploy/verify.sh checks what comes out.
#
# usage: deploy/release.sh FOLDER [amd64|arm64]...
#
# RELEASE_KEY: file with a secret key of minisign; without it nothing is signed, and that is printed. PUBLIC_KEY: file with
# the public key, which then checks the signature at once. For deploy/image.sh: IMAGE_PROFILE, IMAGE_BINARY, IMAGE_BILL.
set -euo pipefail
shopt -s inherit_errexit
# The order of files in a list.
export LC_ALL=C

[ "$#" -ge 1 ] || { sed -n 's/^# usage/usage/p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$1
shift
architectures=("$@")
[ "$#" != 0 ] || architectures=(amd64 arm64)

say() { echo "release: $*" >&2; }
fail() { say "$*"; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/Cargo.toml" | head -n 1)
revision=$(git -C "$here" describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
profile=${IMAGE_PROFILE:-release}
[ -z "${IMAGE_BINARY:-}" ] || profile=given-binary

check_before() {
    [ ! -e "$folder" ] || [ -z "$(ls -A "$folder")" ] || fail "$folder: wanted a new or an empty folder, found files in it: remove it or give another one"
    if [ -n "${RELEASE_KEY:-}" ]; then
        [ -r "$RELEASE_KEY" ] || fail "RELEASE_KEY: wanted a file with a secret key of minisign, found none at '$RELEASE_KEY': minisign -G makes one"
        command -v minisign >/dev/null || fail "wanted minisign, which signs, found none: on Debian: apt-get install minisign"
    fi
    [ "$profile" != given-binary ] || return 0
    [ "$revision" != unknown ] || fail "wanted a checkout of git, whose commit the provenance names, found none in $here: clone the repository"
    [ -z "$(git -C "$here" status --porcelain)" ] || fail "wanted the files of commit $revision, found changed or untracked ones: commit or remove what git status lists"
}

# Starts a binary and compares the version that it prints.
start() {
    local binary=$1 machine command found
    case $2 in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; *) fail "wanted amd64 or arm64, found $2" ;; esac
    command=()
    if [ "$machine" != "$(uname -m)" ]; then
        command=("qemu-$machine-static")
        command -v "${command[0]}" >/dev/null || fail "wanted ${command[0]}, which starts the binary for $2 here, found none: on Debian: apt-get install qemu-user-static, or leave $2 out: ARCHITECTURES=..."
    fi
    found=$("${command[@]}" "$binary" --version) || fail "$binary --version: wanted exit status 0, found $?: the binary does not start on $2"
    [ "$found" = "yellowjack $version" ] || fail "$binary --version: wanted 'yellowjack $version', found '$found': build it from this source"
    say "$binary --version${command[0]:+ in ${command[0]}}: $found"
}

hash_of() { sha256sum "$1" | cut -c1-64; }

# The lines NAME DIGEST of all that the provenance is about: files, and images by the digest that a registry shows.
subjects() {
    local file architecture digest
    for architecture in "${architectures[@]}"; do
        digest=$(tar -xOf "$part/yellowjack-$version-$architecture.tar" ./index.json | jq -r '.manifests[0].digest | ltrimstr("sha256:")')
        echo "yellowjack:$version linux/$architecture $digest"
    done
    for file in "$part"/*; do
        digest=$(hash_of "$file")
        echo "${file##*/} $digest"
    done
}

# The compilers: rustc, and those for C, which build a part of ring.
compilers() {
    local architecture machine
    [ "$profile" != given-binary ] || return 0
    (cd "$here" && rustc --version)
    for architecture in "${architectures[@]}"; do
        case $architecture in amd64) machine=x86_64 ;; *) machine=aarch64 ;; esac
        if [ "$machine" = "$(uname -m)" ]; then "${CC:-cc}" --version; else "$machine-linux-gnu-gcc" --version; fi | sed -n 1p
    done
}

# No times and no name of this machine: they would differ between two builds of one commit.
provenance() {
    local compilers umoci lock authorities
    compilers=$(compilers) umoci=$(umoci --version)
    lock=$(hash_of "$here/Cargo.lock") authorities=$(hash_of /etc/ssl/certs/ca-certificates.crt)
    subjects | jq -R -n --arg revision "$revision" --arg version "$version" --arg profile "$profile" \
        --arg architectures "${architectures[*]}" --arg epoch "$SOURCE_DATE_EPOCH" --arg compilers "$compilers" \
        --arg umoci "$umoci" --arg lock "$lock" --arg authorities "$authorities" '{
            _type: "https://in-toto.io/Statement/v1",
            subject: [inputs | capture("^(?<name>.*) (?<sha256>[0-9a-f]{64})$") | {name, digest: {sha256}}],
            predicateType: "https://slsa.dev/provenance/v1",
            predicate: {
                buildDefinition: {
                    buildType: "https://yellowjack.dev/release/v1",
                    externalParameters: {version: $version, revision: $revision, profile: $profile, architectures: ($architectures / " ")},
                    internalParameters: {
                        baseImage: "scratch", sourceDateEpoch: ($epoch | tonumber),
                        umoci: $umoci, compilers: ($compilers / "\n")
                    },
                    resolvedDependencies: [
                        {uri: "git+https://yellowjack.dev", digest: {gitCommit: $revision}},
                        {name: "Cargo.lock", digest: {sha256: $lock}},
                        {name: "ca-certificates.crt", digest: {sha256: $authorities}}
                    ]
                },
                runDetails: {builder: {id: "https://yellowjack.dev/deploy/release.sh"}}
            }
        }'
}

check_before
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 0)}
mkdir -p "$folder"
# Moved into the folder at the end: a folder with a part of a release must not look like one.
part=$(mktemp -d --tmpdir="$folder")
trap 'rm -rf "$part"' EXIT
for architecture in "${architectures[@]}"; do
    "$here/deploy/image.sh" "yellowjack:$version" "$part/yellowjack-$version-$architecture.tar" "$architecture"
    start "$part/yellowjack-$version-$architecture" "$architecture"
done
# Each text is complete before its file is there: it lists all files of the folder.
text=$(provenance)
echo "$text" >"$part/yellowjack-$version.provenance.json"
text=$(cd "$part" && sha256sum -- *)
echo "$text" >"$part/SHA256SUMS"
if [ -n "${RELEASE_KEY:-}" ]; then
    # The comment is signed too. The default has the time in it.
    minisign -S -s "$RELEASE_KEY" -m "$part/SHA256SUMS" -t "yellowjack $version revision $revision" >&2
else
    say "NOT SIGNED: RELEASE_KEY names no key. Checksums alone show damage, not who made the release, and that is all that 'make verify' can check. To sign: minisign -G -p yellowjack.pub -s yellowjack.key, then make release RELEASE_KEY=yellowjack.key"
fi
"$here/deploy/verify.sh" "$part"
chmod 0644 "$part"/*.json "$part"/SHA256SUMS*
mv "$part"/* "$folder"
say "$folder: complete"
