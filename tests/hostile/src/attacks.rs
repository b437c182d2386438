//! Components that attack the code that reads and compiles them: the parser, the validator, the
//! conversion of types, and the compiler. Unlike [`all`](crate::all), pass them only to a child
//! process: several of them overflow the stack or allocate gigabytes.

mod code;
mod damage;
mod disguises;
mod encode;
mod floods;
mod linking;
mod nesting;
mod proposals;
mod text;
mod types;

use crate::attack::Attack;

/// Returns every attack.
///
/// # Errors
/// Returns an error if the description of an attack is wrong.
pub fn attacks() -> anyhow::Result<Vec<Attack>> {
    let mut rows = nesting::nested()?;
    rows.extend(types::types()?);
    rows.extend(linking::linking()?);
    rows.extend(floods::floods()?);
    rows.extend(code::code()?);
    rows.extend(crate::bombs::all()?);
    rows.extend(proposals::proposals()?);
    rows.extend(disguises::disguises()?);
    let named = rows.into_iter().map(|(name, ends, what, bytes)| Attack {
        name: name.to_owned(),
        what,
        bytes,
        ends,
    });
    Ok(named
        .chain(damage::cut()?)
        .chain(damage::miscounted()?)
        .collect())
}
