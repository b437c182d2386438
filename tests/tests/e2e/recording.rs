//! What is recorded of a run: once, with the true result, and without failures that nothing in the
//! run caused.

mod lost;
mod outages;
mod refused;
mod results;
mod unstarted;
