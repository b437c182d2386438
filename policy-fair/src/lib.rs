//! Shares by weight.
