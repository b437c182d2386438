//! Declares the switch for rules of the protocol, which only the simulation sets.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(oaat_mutations)");
}
