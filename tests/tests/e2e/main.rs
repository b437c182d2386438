//! The required behavior, observed from outside: a real API server, and the operator as a separate
//! process under the shipped RBAC and guard. Each test has its own namespace, node, and operator.

mod attacks;
mod bad_input;
mod chart;
mod clean_text;
mod disruptions;
mod durations;
mod fairness;
mod faults;
mod fixture;
mod give_up;
mod group_selector;
mod guard;
mod helpers;
mod hostile;
mod items;
mod kubectl_oaat;
mod leases;
mod many_groups;
mod migration;
mod operating;
mod options;
mod placeholders;
mod policies;
mod proxy;
mod quick_start;
mod recording;
mod retention;
mod running;
mod selecting;
mod shards;
mod substitution;
mod suspend_and_run_now;
mod undecodable;
mod verdicts;
mod windows;
