//! Excessive nesting.

use super::encode::{nest, section};
use crate::attack::{HEAVY, Row, WRONG};
use crate::bombs::with_sections;
use policy_host::compress;

pub(super) fn nested() -> anyhow::Result<Vec<Row>> {
    let raw = |id, open: &[u8], close: &[u8], depth| {
        let body = [&[1], open.repeat(depth).as_slice(), close].concat();
        with_sections([(id, body)])
    };
    let component = b"\0asm\x0d\0\x01\0".as_slice();
    Ok(vec![
        (
            "nested-component-types",
            WRONG,
            "40,000 nested component types",
            compress(&raw(7, &[0x41, 1, 1], &[0x41, 0], 40_000)?)?,
        ),
        (
            "nested-instance-types",
            WRONG,
            "40,000 nested instance types",
            compress(&raw(7, &[0x42, 1, 1], &[0x42, 0], 40_000)?)?,
        ),
        (
            "nested-types-in-turn",
            WRONG,
            "component and instance types nested in turn, to the size limit",
            compress(&raw(7, &[0x41, 1, 1, 0x42, 1, 1], &[0x41, 0], 600_000)?)?,
        ),
        (
            "nested-types-shallow",
            HEAVY,
            "500 nested component types, which a large stack may hold",
            raw(7, &[0x41, 1, 1], &[0x41, 0], 500)?,
        ),
        (
            "nested-module-types",
            WRONG,
            "40,000 nested module types",
            compress(&raw(3, &[0x50, 1, 1], &[0x50, 0], 40_000)?)?,
        ),
        (
            "nested-types-cut",
            WRONG,
            "100,000 nested component types whose end is missing",
            raw(7, &[0x41, 1, 1], &[], 100_000)?,
        ),
        (
            "nested-components",
            WRONG,
            "40,000 nested components",
            compress(&with_sections([(
                4,
                nest(component, 4, component, 40_000),
            )])?)?,
        ),
        (
            "nested-components-100",
            HEAVY,
            "100 nested components, as many as the parser takes",
            with_sections([(4, nest(component, 4, component, 98))])?,
        ),
        (
            "nested-core-module",
            &[
                "Compiled",
                "Malformed",
                "CompileFailed",
                "TooLarge",
                "InterfaceMismatch",
            ],
            "a core module inside 1,000 components",
            with_sections([(
                4,
                nest(
                    &[component, &section(1, b"\0asm\x01\0\0\0")].concat(),
                    4,
                    component,
                    1_000,
                ),
            )])?,
        ),
    ])
}
