//! Prints the paths of the control plane's programs and of Helm, and builds them if necessary. With
//! the argument `node`, also those of a real node.

use control_plane::ControllerManager;

fn main() -> anyhow::Result<()> {
    let tools = control_plane::ensure(ControllerManager::Required, &|line| eprintln!("{line}"))?;
    println!("{tools:#?}");
    let tools = control_plane::ensure_helm(&|line| eprintln!("{line}"))?;
    println!("{tools:#?}");
    if std::env::args().any(|argument| argument == "node") {
        let tools = control_plane::ensure_node(&|line| eprintln!("{line}"))?;
        println!("{tools:#?}");
    }
    Ok(())
}
