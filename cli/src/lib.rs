//! The library of `kubectl-oaat`, a kubectl plugin that validates objects in files, and builds,
//! tests, and ships selection policies.

pub mod policy;
pub mod validate;
