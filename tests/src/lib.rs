//! A real control plane and a node of local processes, for the end-to-end tests
//! and the demo.
//!
//! The README beside this crate says what of it is real and what is not.

pub mod compiling;
pub mod control_plane;
pub mod node;
pub mod operator;
pub mod process;
pub mod proxy;
pub mod readme;
pub mod real_node;
pub mod storm;
pub mod table;
mod watchdog;
pub mod witness;

pub use control_plane::{ControlPlane, Options};
pub use node::{Mode, Node, NodeOptions};
pub use operator::{Operator, OperatorOptions};
pub use process::{Signal, Supervised};
