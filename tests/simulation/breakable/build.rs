//! Sets the switch for rules of the protocol.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(oaat_mutations)");
    println!("cargo::rustc-cfg=oaat_mutations");
}
