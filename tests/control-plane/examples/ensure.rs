//! Prints the paths of the control plane's programs, of Helm, and of promtool, and builds them if
//! necessary. With the argument `node`, also those of a real node.

use control_plane::ControllerManager;

fn main() -> anyhow::Result<()> {
    let tools = control_plane::ensure(ControllerManager::Required, &|line| eprintln!("{line}"))?;
    println!("{tools:#?}");
    let tools = control_plane::ensure_helm(&|line| eprintln!("{line}"))?;
    println!("{tools:#?}");
    let promtool = control_plane::ensure_promtool(&|line| eprintln!("{line}"))?;
    println!("{}", promtool.display());
    if std::env::args().any(|argument| argument == "node") {
        let tools = control_plane::ensure_node(&|line| eprintln!("{line}"))?;
        println!("{tools:#?}");
    }
    Ok(())
}
