//! Prints the paths of the control plane's programs, of Helm, of promtool, and of Alertmanager, and
//! builds them if necessary. With the argument `node`, also those of a real node.

use control_plane::ControllerManager;

fn main() -> anyhow::Result<()> {
    let tools = control_plane::ensure(ControllerManager::Required, &|line| eprintln!("{line}"))?;
    println!("{tools:#?}");
    let tools = control_plane::ensure_helm(&|line| eprintln!("{line}"))?;
    println!("{tools:#?}");
    let promtool = control_plane::ensure_promtool(&|line| eprintln!("{line}"))?;
    println!("{}", promtool.display());
    let alertmanager = control_plane::ensure_alertmanager(&|line| eprintln!("{line}"))?;
    println!("{}", alertmanager.display());
    if std::env::args().any(|argument| argument == "node") {
        let tools = control_plane::ensure_node(&|line| eprintln!("{line}"))?;
        println!("{tools:#?}");
    }
    Ok(())
}
