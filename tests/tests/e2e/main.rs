//! What must hold, seen from outside: a real API server, the operator as a process of
//! its own under the shipped RBAC, and a namespace, a node and an operator for each
//! test.

mod quick_start;
mod world;
