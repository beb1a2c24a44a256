//! Files that are generated and committed must be what this build generates.

use std::path::Path;

use kube::ResourceExt;

#[test]
fn the_crds_on_disk_are_those_of_this_build() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut expected = Vec::new();
    for crd in yellowjack::api::crds() {
        let file = folder.join(format!("{}.yaml", crd.spec.names.plural));
        let on_disk = std::fs::read_to_string(&file).unwrap_or_default();
        let generated = yellowjack::api::crds_to_yaml(&crd).unwrap();
        assert!(
            on_disk == generated,
            "{} of {} is out of date; run `cargo run -- crds --output-dir crds`",
            file.display(),
            crd.name_any()
        );
        expected.push(file);
    }
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "crds/ holds files that nothing generates");
}
