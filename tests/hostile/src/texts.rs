//! Texts that users may write and that attack the code that parses them.

/// A text that attacks a parser.
#[derive(Clone, Debug)]
pub struct Text {
    /// A unique name among those of its kind.
    pub name: &'static str,
    /// The text.
    pub text: String,
    /// Whether it must be rejected; `None` if either result is correct.
    pub refused: Option<bool>,
}

/// The size of the largest texts: the limit of a ConfigMap.
const LARGE: usize = 1 << 20;
const NO: Option<bool> = Some(true);
const YES: Option<bool> = Some(false);

fn rows<const N: usize>(rows: [(&'static str, Option<bool>, String); N]) -> Vec<Text> {
    let rows = rows.into_iter();
    rows.map(|(name, refused, text)| Text {
        name,
        text,
        refused,
    })
    .collect()
}

/// Repeats a text until it is as large as a ConfigMap.
fn fill(text: &str) -> String {
    text.repeat(LARGE / text.len())
}

fn many(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect()
}

/// Returns lists of items, as in a ConfigMap, from a container, or from a web server.
pub fn lists() -> Vec<Text> {
    let half = LARGE / 2;
    rows([
        ("flow-open", NO, fill("[")),
        ("flow-nested", NO, "[".repeat(half) + &"]".repeat(half)),
        ("flow-nested-commas", NO, format!("[{}", fill("[,"))),
        ("flow-maps", NO, format!("[{}", fill("{a: "))),
        ("flow-keys", NO, format!("[{}", fill("? "))),
        ("flow-colons", NO, format!("[{}", fill(": "))),
        ("flow-questions", NO, format!("[{}", fill("?["))),
        ("block-open", NO, fill("- ")),
        (
            "block-nested",
            NO,
            many(1_400, |n| format!("{}-\n", " ".repeat(n))),
        ),
        ("block-keys", NO, format!("- {}", fill("? "))),
        ("block-maps", NO, format!("- a\n- {}", fill("a: "))),
        ("braces", NO, fill("{")),
        (
            "braces-nested",
            NO,
            "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000),
        ),
        ("quotes", NO, fill("\"")),
        ("quotes-in-flow", NO, format!("[{}", fill("\""))),
        ("quotes-open", NO, format!("[\"{}", fill("x"))),
        ("single-quotes", NO, format!("[{}", fill("'"))),
        ("escapes", NO, format!("[\"{}\"]", fill("\\u0041"))),
        ("escapes-cut", NO, format!("[\"{}", fill("\\"))),
        ("surrogates", NO, format!("[\"{}\"]", fill("\\ud800"))),
        (
            "aliases",
            NO,
            format!("[&a [{}], {}]", "x,".repeat(10_000), "*a,".repeat(10_000)),
        ),
        (
            "aliases-doubling",
            NO,
            (1..64).fold("- &a0 [x,x,x]\n".to_owned(), |text, n| {
                let below = n - 1;
                text + &format!("- &a{n} [*a{below},*a{below},*a{below},*a{below}]\n")
            }),
        ),
        (
            "aliases-of-text",
            NO,
            format!("[&a {}, {}]", "y".repeat(300_000), "*a,".repeat(10_000)),
        ),
        (
            "aliases-equal",
            None,
            format!("[&a x, {}]", "*a,".repeat(10_000)),
        ),
        ("alias-to-itself", NO, "- &a [*a]\n".into()),
        (
            "alias-unknown",
            NO,
            format!("[{}]", "*nobody,".repeat(10_000)),
        ),
        ("anchors", NO, many(50_000, |n| format!("- &a{n} x{n}\n"))),
        ("anchor-again", None, "- &a x\n".repeat(20_000)),
        ("anchor-long", None, format!("- &{} x\n", "a".repeat(half))),
        ("scalar-long", NO, format!("- {}", fill("x"))),
        ("scalar-block", NO, format!("- |\n{}", fill("  xxxxxxxx\n"))),
        ("scalar-folded", NO, format!("- >\n{}", fill("  x\n\n"))),
        ("scalar-plain-lines", NO, format!("- x\n{}", fill("  x\n"))),
        ("documents", NO, fill("---\n")),
        ("documents-with-lists", NO, fill("---\n- a\n")),
        ("document-ends", NO, format!("- a\n{}", fill("...\n"))),
        (
            "directives",
            NO,
            format!("---\n- a\n{}", fill("%YAML 1.2\n---\n")),
        ),
        ("comments", NO, fill("# x\n")),
        ("comment-long", NO, fill("#")),
        ("blank-lines", NO, fill("\n")),
        ("carriage-returns", NO, fill("\r")),
        ("crlf", YES, "a\r\nb\r\n".repeat(1_000)),
        ("tabs", NO, fill("\t")),
        ("tabs-in-list", None, "-\ta\n-\tb\n".into()),
        ("indent-tabs", NO, "- a\n\t- b\n".repeat(10_000)),
        ("byte-order-marks", NO, fill("\u{feff}")),
        (
            "byte-order-marks-in-list",
            None,
            "- \u{feff}a\n".repeat(1_000),
        ),
        ("nul", NO, fill("\0")),
        ("nul-in-list", NO, "[\"a\0b\"]".into()),
        ("control", NO, "a\u{1b}[31mb\n".into()),
        ("line-separators", None, fill("\u{2028}")),
        ("bidirectional", None, "\u{202e}abc\n\u{2066}x\n".into()),
        ("combining", NO, format!("a{}", fill("\u{301}"))),
        ("tags", NO, format!("- {}", fill("!!seq "))),
        ("tag-long", None, format!("- !<{}> x\n", "t".repeat(half))),
        (
            "tag-percent",
            NO,
            format!("- !{} [x]\n", "%41".repeat(100_000)),
        ),
        ("tag-binary", None, "- !!binary eA==\n".into()),
        (
            "tag-object",
            NO,
            "- !!python/object/apply:os.system [reboot]\n".into(),
        ),
        ("merge-keys", NO, "- &a {x: 1}\n- {<<: *a}\n".into()),
        (
            "merge-keys-doubling",
            NO,
            (1..50).fold("- &a0 {x: 1}\n".to_owned(), |text, n| {
                text + &format!("- &a{n} {{<<: [*a{0}, *a{0}]}}\n", n - 1)
            }),
        ),
        ("many-items", NO, many(100_000, |n| format!("i{n}\n"))),
        (
            "many-items-json",
            NO,
            format!("[{}\"z\"]", many(80_000, |n| format!("\"i{n}\","))),
        ),
        ("equal-items", None, fill("a\n")),
        ("equal-items-yaml", NO, fill("- a\n")),
        ("long-items", NO, many(3_000, |n| format!("{n:0300}\n"))),
        ("item-too-long", NO, fill("x")),
        ("digits", NO, format!("[{}]", fill("1"))),
        ("exponent", None, "[1e999999999]".into()),
        ("fraction", NO, format!("[0.{}]", fill("3"))),
        ("nothings", NO, format!("[{}]", "null,".repeat(100_000))),
        (
            "other-kinds",
            NO,
            "- yes\n- ~\n- .inf\n- 0o17\n- 1:30:00\n- 2001-01-01\n".into(),
        ),
        (
            "empty-texts",
            NO,
            format!("[{}\"\"]", "\"\",".repeat(100_000)),
        ),
        ("commas", NO, format!("[{}", fill(","))),
        ("page", NO, format!("<!doctype html>{}", fill("<div>"))),
        ("object", NO, "{\"items\": [\"a\"]}".into()),
        ("list-cut", NO, format!("[{}", "\"a\",".repeat(100_000))),
    ])
}

/// Returns JSON paths, which name members, indexes, and wildcards.
pub fn paths() -> Vec<Text> {
    let filter = |depth: usize| {
        format!(
            "$[?{}@.a{} > 1]",
            "length(".repeat(depth),
            ")".repeat(depth)
        )
    };
    let nots = |depth: usize| format!("$[?{}@.a{}]", "!(".repeat(depth), ")".repeat(depth));
    rows([
        ("root", YES, "$".into()),
        ("members", YES, "$.items[*].name".into()),
        ("index", YES, "$[0]".into()),
        ("quoted", YES, "$['a b']".into()),
        ("functions", NO, filter(3)),
        ("functions-25", NO, filter(25)),
        ("functions-120", NO, filter(120)),
        (
            "functions-open",
            NO,
            "$[?".to_owned() + &"length(".repeat(140),
        ),
        ("nots", NO, nots(200)),
        ("parentheses", NO, "$[?".to_owned() + &"(".repeat(1_000)),
        ("filter", NO, "$[?@.a == 1]".into()),
        ("filters", NO, "$".to_owned() + &"[?@.a]".repeat(160)),
        (
            "filter-in-filter",
            NO,
            "$".to_owned() + &"[?@".repeat(150) + &"]".repeat(150),
        ),
        ("regex", NO, "$[?match(@.a, '(a+)+$')]".into()),
        (
            "regex-bomb",
            NO,
            "$[?search(@.a, '((a{1,999}){1,999}){1,999}')]".into(),
        ),
        (
            "comparisons",
            NO,
            format!("$[?{}@.a]", "@.a && ".repeat(130)),
        ),
        ("everywhere", NO, "$..name".into()),
        ("everywhere-often", NO, "$".to_owned() + &"..*".repeat(300)),
        ("dots", NO, "$".to_owned() + &".".repeat(1_000)),
        ("wildcards", None, "$".to_owned() + &"[*]".repeat(340)),
        ("wildcards-dotted", None, "$".to_owned() + &".*".repeat(500)),
        (
            "wildcards-thousands",
            None,
            "$".to_owned() + &"[*]".repeat(300_000),
        ),
        ("several", NO, format!("$[{}0]", "0,".repeat(500))),
        ("several-often", NO, "$".to_owned() + &"[*,*]".repeat(200)),
        ("range", NO, "$[0:10:2]".into()),
        ("range-zero", NO, "$[::0]".into()),
        (
            "range-huge",
            NO,
            "$[-9223372036854775808:9223372036854775807:-1]".into(),
        ),
        ("index-negative", None, "$[-1]".into()),
        ("index-huge", None, "$[18446744073709551615]".into()),
        ("index-longer", NO, format!("$[{}]", "9".repeat(1_000))),
        ("index-leading-zero", None, "$[007]".into()),
        ("index-fraction", NO, "$[1.5]".into()),
        ("index-script", NO, "$[(@.length-1)]".into()),
        ("brackets", NO, "$".to_owned() + &"[".repeat(1_000)),
        (
            "brackets-closed",
            NO,
            format!("${}{}", "[".repeat(500), "]".repeat(500)),
        ),
        ("brackets-million", NO, "$".to_owned() + &fill("[")),
        ("quotes-open", NO, "$['".to_owned() + &"a".repeat(900)),
        ("quotes", NO, "$[".to_owned() + &"'".repeat(999)),
        ("quotes-other", NO, "$['a\"]".into()),
        ("escapes", None, format!("$['{}']", "\\u0041".repeat(160))),
        ("escape-cut", NO, "$['\\".into()),
        ("escape-unknown", NO, "$['\\x41']".into()),
        ("surrogate", NO, "$['\\ud800']".into()),
        ("surrogates-swapped", NO, "$['\\udc00\\ud800']".into()),
        ("nul", None, "$['\0']".into()),
        ("control", None, "$.a\u{1b}[31m".into()),
        ("letters", None, "$.é.\u{202e}x.名前".into()),
        ("letters-long", None, "$.".to_owned() + &"é".repeat(500)),
        ("empty", NO, String::new()),
        ("no-root", NO, "items[*]".into()),
        ("current", NO, "@.items".into()),
        ("space-first", NO, " $.a".into()),
        ("ends-in-dot", NO, "$.a.".into()),
        ("close-only", NO, "$.a]".into()),
        ("digit-first", None, "$.1a".into()),
        ("members-long", None, "$".to_owned() + &".a".repeat(510)),
        ("garbage", NO, "$.a$.b$.c".into()),
    ])
}

/// Returns values of the annotation `oaat.kawaja.net/run-now`.
pub fn run_now() -> Vec<Text> {
    // All annotations of an object together have at most 256 KiB.
    let size = 200_000;
    let items = |items: &str| format!("{{\"token\": \"t\", \"items\": {items}}}");
    rows([
        ("all", YES, items("\"*\"")),
        ("brackets", NO, "[".repeat(size)),
        ("braces", NO, "{\"a\":".repeat(size / 5)),
        ("items-brackets", NO, items(&"[".repeat(size))),
        (
            "items-nested",
            NO,
            items(&format!("{}{}", "[".repeat(size / 2), "]".repeat(size / 2))),
        ),
        (
            "items-many",
            None,
            items(&format!("[{}\"a\"]", "\"a\",".repeat(40_000))),
        ),
        (
            "items-unknown",
            None,
            items(&format!(
                "[{}\"z\"]",
                many(20_000, |n| format!("\"n{n}\","))
            )),
        ),
        (
            "item-long",
            None,
            items(&format!("[\"{}\"]", "x".repeat(size))),
        ),
        (
            "item-controls",
            None,
            items("[\"\\u001b[31m\\u202e\\u0000\"]"),
        ),
        ("item-surrogate", NO, items("[\"\\ud800\"]")),
        ("items-empty", NO, items("[]")),
        ("items-texts", NO, items("\"a\"")),
        ("items-numbers", NO, items("[1, 2]")),
        (
            "items-twice",
            NO,
            "{\"token\": \"t\", \"items\": \"*\", \"items\": [\"a\"]}".into(),
        ),
        (
            "token-long",
            NO,
            format!("{{\"token\": \"{}\", \"items\": \"*\"}}", "t".repeat(size)),
        ),
        (
            "token-controls",
            NO,
            "{\"token\": \"\\u001b\\u0007\", \"items\": \"*\"}".into(),
        ),
        (
            "token-number",
            NO,
            format!("{{\"token\": {}, \"items\": \"*\"}}", "9".repeat(1_000)),
        ),
        (
            "token-empty",
            NO,
            "{\"token\": \"\", \"items\": \"*\"}".into(),
        ),
        (
            "unknown-fields",
            NO,
            format!(
                "{{{}\"token\": \"t\"}}",
                many(10_000, |n| format!("\"f{n}\": 1,"))
            ),
        ),
        (
            "unknown-field-long",
            NO,
            format!("{{\"{}\": 1}}", "f".repeat(size)),
        ),
        ("spaces", NO, " ".repeat(size)),
        ("spaces-before", NO, " ".repeat(size) + &items("\"*\"")),
        ("garbage-behind", NO, items("\"*\"") + &"x".repeat(size)),
        ("empty", NO, String::new()),
        ("word", NO, "now".into()),
        ("null", NO, "null".into()),
        ("nul", NO, "\0".into()),
        ("quotes", NO, "\"".repeat(size)),
        (
            "escapes",
            NO,
            format!("{{\"token\": \"{}", "\\u0041".repeat(30_000)),
        ),
    ])
}

/// Returns schedules of blackout windows, in the five fields of cron.
pub fn schedules() -> Vec<Text> {
    rows([
        ("night", YES, "0 22 * * 1-5".into()),
        ("every-minute", YES, "* * * * *".into()),
        ("never-february", None, "0 0 30 2 *".into()),
        ("never-months", None, "0 0 31 2,4,6,9,11 *".into()),
        ("leap-day", YES, "0 0 29 2 *".into()),
        ("leap-day-monday", None, "0 0 29 2 1#5".into()),
        ("sixth-friday", None, "0 0 * * 5#6".into()),
        ("last-weekday", None, "0 0 LW * *".into()),
        ("nearest-weekday", None, "0 0 31W 2 *".into()),
        ("questions", None, "? ? ? ? ?".into()),
        ("step-zero", NO, "*/0 * * * *".into()),
        ("step-huge", NO, "*/99999999999999999999 * * * *".into()),
        ("minute-60", NO, "60 * * * *".into()),
        ("number-huge", NO, "99999999999999999999 * * * *".into()),
        ("range-backwards", None, "0 0 * * 5-1".into()),
        ("range-open", NO, "0 0 1- * *".into()),
        ("list-long", None, format!("{}0 * * * *", "1,".repeat(40))),
        ("list-empty", NO, ", , , , ,".into()),
        ("signs", NO, "*-*/*-* * * * *".into()),
        ("letters", NO, "a b c d e".into()),
        ("names", None, "0 0 * JAN-DEC MON-SUN".into()),
        ("alias", NO, "@yearly".into()),
        ("six-fields", NO, "0 0 0 * * *".into()),
        ("four-fields", NO, "0 0 * *".into()),
        ("spaces", NO, " ".repeat(100)),
        ("empty", NO, String::new()),
        ("letters-other", NO, "０ ０ * * *".into()),
        ("nul", NO, "0 0 * * \0".into()),
        ("long", NO, "* ".repeat(400_000)),
        (
            "long-list",
            NO,
            format!("{}0 * * * *", "1,".repeat(500_000)),
        ),
    ])
}

/// Returns durations, as in `frequency`.
pub fn durations() -> Vec<Text> {
    rows([
        ("plain", YES, "1h 30m".into()),
        ("zero", NO, "0s".into()),
        ("negative", NO, "-1s".into()),
        ("fraction", None, "1.5h".into()),
        ("exponent", NO, "1e9s".into()),
        ("hexadecimal", NO, "0x10s".into()),
        ("nanosecond", NO, "1ns".into()),
        ("last-second", NO, "18446744073709551615s".into()),
        ("beyond", NO, "99999999999999999999s".into()),
        ("years", NO, "584942417355years".into()),
        ("thousand-years", NO, "1000years".into()),
        (
            "sum-beyond",
            NO,
            "18446744073709551615s 999999999ns 1ns".into(),
        ),
        ("many-parts", None, "1s".repeat(30)),
        ("parts-without-end", NO, "1s ".repeat(300_000)),
        ("digits", NO, "9".repeat(1_000_000)),
        ("spaces", NO, " ".repeat(1_000_000)),
        ("letters", NO, "１h".into()),
        ("unit-long", NO, format!("1{}", "h".repeat(1_000_000))),
        ("unit-unknown", NO, "1fortnight".into()),
        ("empty", NO, String::new()),
        ("nul", NO, "1h\0".into()),
    ])
}

/// Returns names of time zones.
pub fn time_zones() -> Vec<Text> {
    rows([
        ("berlin", YES, "Europe/Berlin".into()),
        ("utc", YES, "UTC".into()),
        ("parent", NO, "../../../../etc/passwd".into()),
        ("device", NO, "/dev/zero".into()),
        ("posix", NO, "EST5EDT4,M3.2.0,M11.1.0".into()),
        ("offset", NO, "+02:00".into()),
        ("far", NO, "Etc/GMT+99".into()),
        ("colon", NO, ":Europe/Berlin".into()),
        ("case", None, "europe/BERLIN".into()),
        ("local", None, "localtime".into()),
        ("long", NO, "x".repeat(1_000_000)),
        ("slashes", NO, "/".repeat(64)),
        ("nul", NO, "UTC\0".into()),
        ("empty", NO, String::new()),
    ])
}
