//! Files that are not what their header indicates.

use crate::attack::{COMPILED, HEAVY, Row, WRONG};
use crate::bombs::{with_module, with_sections};
use crate::bytes::flip;
use crate::component::honest;
use policy_host::compress;

pub(super) fn disguises() -> anyhow::Result<Vec<Row>> {
    let honest = honest()?;
    let mut config = wasmtime::Config::new();
    config.consume_fuel(true).epoch_interruption(true);
    let artifact = wasmtime::Engine::new(&config)
        .and_then(|engine| engine.precompile_component(&honest))
        .map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let header = |more: &[u8]| [b"\x1f\x8b\x08", more].concat();
    let verdict = b"{\"compiled\":{\"digest\":\"00\"}}\n".as_slice();
    const MALFORMED: &[&str] = &["Malformed"];
    Ok(vec![
        (
            "artifact",
            MALFORMED,
            "an artifact of the same engine",
            artifact.clone(),
        ),
        (
            "artifact-packed",
            MALFORMED,
            "an artifact, packed with gzip",
            compress(&artifact)?,
        ),
        (
            "artifact-as-component",
            WRONG,
            "an artifact behind the header of a component",
            [&honest[..8], &artifact].concat(),
        ),
        (
            "artifact-as-output",
            MALFORMED,
            "what a child process prints, with an artifact",
            [verdict, &artifact].concat(),
        ),
        (
            "artifact-inside",
            WRONG,
            "an artifact as the core module of a component",
            with_module(&artifact)?,
        ),
        (
            "artifact-custom",
            HEAVY,
            "an honest component with an artifact in a custom section",
            with_sections([(0, [b"\x06.wasmt", artifact.as_slice()].concat())])?,
        ),
        (
            "elf",
            MALFORMED,
            "a program",
            std::fs::read("/proc/self/exe")?
                .into_iter()
                .take(1 << 19)
                .collect(),
        ),
        (
            "script",
            MALFORMED,
            "a shell script",
            b"#!/bin/sh\nkill -9 -1\n".to_vec(),
        ),
        (
            "json",
            MALFORMED,
            "a refusal in JSON",
            b"{\"refused\":{\"Malformed\":\"\"}}\n".to_vec(),
        ),
        (
            "header-newline",
            MALFORMED,
            "a header whose zeros became newlines",
            b"\nasm\x0d\n\x01\n".to_vec(),
        ),
        (
            "layer",
            MALFORMED,
            "a component of another layer",
            flip(&honest, 6, 0x02),
        ),
        (
            "gzip-thrice",
            MALFORMED,
            "packed three times",
            compress(&compress(&compress(&honest)?)?)?,
        ),
        (
            "gzip-exact",
            WRONG,
            "zeros, exactly as many as fit",
            compress(&[&honest[..8], &vec![0; (4 << 20) - 8]].concat())?,
        ),
        (
            "gzip-bomb-2",
            &["TooLarge"],
            "16 MB of zeros",
            compress(&vec![0; 16 << 20])?,
        ),
        (
            "gzip-name",
            MALFORMED,
            "gzip with a file name of 900 KB that does not end",
            header(&[[0x08, 0, 0, 0, 0, 0, 3].as_slice(), &vec![b'n'; 900_000]].concat()),
        ),
        (
            "gzip-extra",
            MALFORMED,
            "gzip with an extra field that is cut off",
            header(&[0x04, 0, 0, 0, 0, 0, 3, 0xff, 0xff, 1]),
        ),
        ("gzip-checksum", MALFORMED, "gzip with a wrong checksum", {
            let packed = compress(&honest)?;
            flip(&packed, packed.len() - 5, 0xff)
        }),
        (
            "gzip-trailing",
            &["Malformed", COMPILED],
            "gzip with garbage behind it",
            [compress(&honest)?, vec![7; 4096]].concat(),
        ),
        (
            "gzip-empty",
            MALFORMED,
            "gzip of nothing, a hundred thousand times",
            compress(&[])?.repeat(40_000),
        ),
        (
            "gzip-stored",
            &["TooLarge", "Malformed"],
            "gzip that does not pack, of 5 MB",
            {
                let mut out =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
                std::io::Write::write_all(&mut out, &vec![1; 5 << 20])?;
                out.finish()?
            },
        ),
    ])
}
