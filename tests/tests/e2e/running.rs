//! That one item runs at a time, whatever happens to pods, groups, namespaces and the
//! operator meanwhile.

mod crashes;
mod deletion;
mod foreign;
mod gates;
mod phases;
mod placement;
mod replicas;
mod wiped;
