//! Components that do not match the contract. Each is generated from the contract's text with one
//! change, like a real author's mistake.

use crate::Expected::{self, Load};
use crate::Hostile;
use crate::component::{CONTRACT, dummy};
use anyhow::ensure;

/// A text in the contract, and its replacement.
type Change = (&'static str, &'static str);
type Row = (&'static str, Expected, &'static str, &'static [Change]);

const ROWS: &[Row] = &[
    (
        "crash",
        Load("ProbeFailed"),
        "fits the contract and crashes in each function",
        &[],
    ),
    (
        "export-missing",
        Load("InterfaceMismatch"),
        "exports nothing",
        &[("export selector;", "")],
    ),
    (
        "function-missing",
        Load("InterfaceMismatch"),
        "exports the interface without select",
        &[(
            "select: func(request: request) -> result<decision, string>;",
            "",
        )],
    ),
    (
        "function-retyped",
        Load("InterfaceMismatch"),
        "its select takes a string",
        &[("func(request: request)", "func(request: string)")],
    ),
    (
        "record-grown",
        Load("InterfaceMismatch"),
        "expects one more field in a request, under the same version",
        &[("extra: string,", "extra: string, more: option<u64>,")],
    ),
    (
        "record-reordered",
        Load("InterfaceMismatch"),
        "expects two fields of an item in another order",
        &[
            ("failures: u32,", "temp: u32,"),
            ("runs: u32,", "failures: u32,"),
            ("temp: u32,", "runs: u32,"),
        ],
    ),
    (
        "enum-grown",
        Load("InterfaceMismatch"),
        "knows a standing that the contract does not",
        &[("deferred,", "deferred, sulking,")],
    ),
    (
        "log-retyped",
        Load("InterfaceMismatch"),
        "imports a log without levels",
        &[("func(level: level, line: string)", "func(line: string)")],
    ),
    (
        "contract-1.1.0",
        Load("ContractTooNew"),
        "speaks contract 1.1.0, in which a record has grown",
        &[
            ("@1.0.0", "@1.1.0"),
            ("extra: string,", "extra: string, more: option<u64>,"),
        ],
    ),
    (
        "contract-2.0.0",
        Load("ContractTooNew"),
        "speaks contract 2.0.0",
        &[("@1.0.0", "@2.0.0")],
    ),
    (
        "contract-1.1.0-clock",
        Load("ContractTooNew"),
        "imports a clock that contract 1.1.0 has, and speaks 1.0.0 otherwise",
        &[
            ("import log;", "import log; import oaat:policy/clock@1.1.0;"),
            ("interface types {", WASI),
        ],
    ),
    (
        "contract-long",
        Load("ContractTooNew"),
        "speaks a contract whose version is very long",
        &[(
            "@1.0.0",
            "@9.9.9-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        )],
    ),
    (
        "contract-0.9.0",
        Load("InterfaceMismatch"),
        "speaks a contract that never was",
        &[("@1.0.0", "@0.9.0")],
    ),
    (
        "import-wasi",
        Load("ForbiddenImport"),
        "wants the environment from wasi",
        &[
            (
                "import log;",
                "import log; import wasi:cli/environment@0.2.0;",
            ),
            ("interface types {", WASI),
        ],
    ),
    (
        "import-own",
        Load("ForbiddenImport"),
        "wants a clock under the contract's own name",
        &[
            ("import log;", "import log; import clock;"),
            ("interface types {", CLOCK),
        ],
    ),
    (
        "import-function",
        Load("ForbiddenImport"),
        "wants a bare function",
        &[("import log;", "import log; import now: func() -> u64;")],
    ),
];

/// A nested package must precede the interfaces of the package around it.
const WASI: &str = "interface types {";
const CLOCK: &str = "interface clock { now: func() -> u64; } interface types {";

pub(crate) fn all() -> anyhow::Result<Vec<Hostile>> {
    ROWS.iter()
        .map(|&(name, expected, what, changes)| {
            let mut contract = CONTRACT.to_owned();
            for (from, to) in changes {
                ensure!(
                    contract.contains(from),
                    "{name}: no {from:?} in the contract"
                );
                contract = contract.replace(from, to);
            }
            if contract.contains("wasi:") {
                contract.push_str(
                    "package wasi:cli@0.2.0 { interface environment { get: func() -> string; } }",
                );
            }
            if contract.contains("oaat:policy/clock@1.1.0") {
                contract.push_str(
                    "package oaat:policy@1.1.0 { interface clock { now: func() -> u64; } }",
                );
            }
            Ok(Hostile {
                name,
                what,
                bytes: dummy(&contract)?,
                settings: None,
                expected,
            })
        })
        .collect()
}
