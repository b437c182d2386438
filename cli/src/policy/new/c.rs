//! The files of a policy in C.

use super::{CASES, File, fill};
use anyhow::{Result, anyhow};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

/// The contract, from which the types and functions in C are generated.
const CONTRACT: &str = include_str!("../../../../wit/1.0.0/policy.wit");

/// Returns the files that belong to the author.
pub(super) fn own(name: &str) -> Vec<File> {
    [
        ("Makefile", include_str!("../../../template/c/Makefile")),
        ("README.md", include_str!("../../../template/c/README.md")),
        (".gitignore", "/target\n"),
        ("select.c", include_str!("../../../template/c/select.c")),
        ("cases.yaml", CASES),
    ]
    .map(|(path, text)| (path.into(), fill(text, name).into_bytes()))
    .into()
}

/// Returns the files of this release, relative to their directory.
pub(super) fn supplied() -> Result<Vec<File>> {
    let mut files: Vec<File> = [
        (
            "documented.h",
            include_str!("../../../template/c/oaat/documented.h"),
        ),
        (
            "documented.c",
            include_str!("../../../template/c/oaat/documented.c"),
        ),
        ("libc.c", include_str!("../../../template/c/oaat/libc.c")),
        (
            "stdlib.h",
            include_str!("../../../template/c/oaat/stdlib.h"),
        ),
        (
            "string.h",
            include_str!("../../../template/c/oaat/string.h"),
        ),
    ]
    .map(|(path, text)| (path.into(), text.as_bytes().to_vec()))
    .into();
    let bindings = bindings()?;
    files.extend(
        bindings
            .iter()
            .map(|(path, content)| (path.into(), content.to_vec())),
    );
    Ok(files)
}

/// Generates policy.h, policy.c, and the object with the type of the component.
fn bindings() -> Result<Files> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("policy.wit", CONTRACT)?;
    let world = resolve.select_world(&[package], None)?;
    let options = wit_bindgen_c::Opts {
        no_helpers: true,
        rename_world: Some("oaat".into()),
        // Short names, such as oaat_request_t.
        rename: ["types", "log", "selector"]
            .map(|interface| {
                let name = match interface {
                    "types" => "oaat",
                    "log" => "oaat_log",
                    _ => "oaat",
                };
                (format!("oaat:policy/{interface}@1.0.0"), name.to_owned())
            })
            .into(),
        ..Default::default()
    };
    let mut files = Files::default();
    options
        .build()
        .generate(&mut resolve, world, &mut files)
        .map_err(|error| anyhow!("failed to generate the C bindings: {error:#}"))?;
    Ok(files)
}
