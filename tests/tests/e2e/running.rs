//! One item runs at a time, whatever happens to pods, groups, namespaces, and the operator.

mod crashes;
mod deletion;
mod foreign;
mod gates;
mod phases;
mod placement;
mod replicas;
mod wiped;
