//! Tests that the excerpts in the README match the code.

use std::fs;
use std::path::Path;

#[test]
fn readme_excerpts_are_in_the_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let sources: Vec<_> = ["src", "tests"]
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).unwrap())
        .map(|file| read(&file.unwrap().path()))
        .chain([read(&root.join("cases.yaml"))])
        .collect();
    // Every second part is a code block, whose first line is the language.
    let readme = read(&root.join("README.md"));
    let mut seen = 0;
    for block in readme.split("```").skip(1).step_by(2) {
        let (language, excerpt) = block.split_once('\n').unwrap();
        if language == "console" {
            continue;
        }
        seen += 1;
        assert!(
            sources.iter().any(|source| source.contains(excerpt)),
            "no file of this crate contains:\n{excerpt}"
        );
    }
    assert!(seen > 5, "{seen} excerpts");
}
