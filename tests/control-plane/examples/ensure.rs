//! Prints where the control plane's programs are, after building them if need be; with
//! the argument `node` those of a real node as well.

fn main() -> anyhow::Result<()> {
    let tools = control_plane::ensure(&|line| eprintln!("{line}"))?;
    println!("{tools:#?}");
    if std::env::args().any(|argument| argument == "node") {
        let tools = control_plane::ensure_node(&|line| eprintln!("{line}"))?;
        println!("{tools:#?}");
    }
    Ok(())
}
