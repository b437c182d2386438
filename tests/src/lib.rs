//! A real control plane and a node that runs local processes, for the end-to-end tests and the
//! demo.
//!
//! The README of this crate describes what is real and what is emulated.

pub mod alerts;
pub mod browser;
pub mod chart;
pub mod console;
pub mod control_plane;
pub mod dashboard;
pub mod node;
pub mod operator;
pub mod process;
pub mod proxy;
pub mod readme;
pub mod real_node;
pub mod storm;
pub mod table;
pub mod undecodable;
mod watchdog;
pub mod witness;

pub use control_plane::{ControlPlane, Options};
pub use node::{Mode, Node, NodeOptions};
pub use operator::{Operator, OperatorOptions};
pub use process::{Signal, Supervised};
