//! What is recorded of a run: once, with the true result, and never what is nobody's
//! fault.

mod lost;
mod outages;
mod refused;
mod results;
mod unstarted;
