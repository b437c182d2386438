//! Sections, numbers, and compression.

use policy_host::compress;

/// Returns a section, from its id on.
pub(super) fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [&[id], number(body.len()).as_slice(), body].concat()
}

/// Returns `inner` in `depth` nested sections, each after a header.
pub(super) fn nest(inner: &[u8], id: u8, header: &[u8], depth: usize) -> Vec<u8> {
    // From the inside out and backwards, so that nothing is moved.
    let mut out: Vec<u8> = inner.iter().rev().copied().collect();
    for _ in 0..depth {
        let size = number(out.len());
        out.extend(size.iter().rev());
        out.push(id);
        out.extend(header.iter().rev());
    }
    out.reverse();
    out
}

/// Encodes a number as LEB128.
fn number(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

/// Compresses a component if it is larger than 1 MiB.
pub(super) fn compress_if_large(bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    if bytes.len() > 1 << 20 {
        return Ok(compress(&bytes)?);
    }
    Ok(bytes)
}
