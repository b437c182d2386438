//! Prints where the control plane's programs are, after building them if need be.

fn main() -> anyhow::Result<()> {
    let tools = control_plane::ensure(&|line| eprintln!("{line}"))?;
    println!("{tools:#?}");
    Ok(())
}
