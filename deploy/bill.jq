# Makes the image's bill of materials from the one of its binary: the image, named by its digest, is what the bill is about,
# and the binary is a component of it. Called by deploy/image.sh, and by deploy/verify.sh to compare.
# Arguments: digest (sha256:...), architecture, version.
("pkg:oci/yellowjack@" + ($digest | @uri) + "?arch=" + $architecture + "&tag=" + $version) as $image
| .metadata.component as $binary
| .metadata.component = {
    "bom-ref": $image,
    type: "container",
    name: "yellowjack",
    version: $version,
    purl: $image,
    hashes: [{alg: "SHA-256", content: ($digest | ltrimstr("sha256:"))}]
  }
| .components = [$binary] + (.components // [])
| .dependencies = [{ref: $image, dependsOn: [$binary["bom-ref"]]}] + (.dependencies // [])
