//! Declarative cases for selection policies.
