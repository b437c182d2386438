//! What must hold, seen from outside: a real API server, the operator as a process of
//! its own under the shipped RBAC and guard, and a namespace, a node and an operator for each
//! test.

mod attacks;
mod bad_input;
mod by_hand;
mod clean_text;
mod durations;
mod faults;
mod guard;
mod hostile;
mod items;
mod moving;
mod operating;
mod policies;
mod quick_start;
mod recording;
mod retention;
mod running;
mod selecting;
mod substitution;
mod undecodable;
mod verdicts;
mod windows;
mod wishes;
mod world;
