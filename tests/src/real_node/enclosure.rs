//! The enclosure of a real node: its own process, mount, and network namespaces.
//!
//! A node that is killed leaves containers, their shims, mounts, and network interfaces behind. In
//! the enclosure, all of these belong to namespaces. The kernel ends and removes them together with
//! the first process inside, in whatever way that ends. A folder and some empty cgroups remain,
//! which a shell outside removes.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// The environment variable that names the folder for all files, inside the enclosure.
const FOLDER: &str = "OAAT_REAL_NODE_FOLDER";
/// The prefix of the node's cgroups.
const CGROUP: &str = "oaat-node-";
/// The address of the node inside the enclosure, from a range for documentation.
pub(super) const ADDRESS: &str = "192.0.2.1";

/// Folders that are separate inside the enclosure: sockets, network namespaces, shared memory, and
/// logs.
const HIDDEN: [&str; 4] = ["/run", "/dev/shm", "/var/log", "/var/lib/kubelet"];

/// Waits for the end of everything, in whatever way it ends, and removes what remains. Its
/// parameters are the folder, whether to keep it, the script for the inside, and the program with
/// its arguments.
const OUTSIDE: &str = r#"
folder=$1 keep=$2; shift 2
mkdir -p "$folder/tmp" || exit 1
# Some of the kubelet's paths cannot be chosen; the folder is a place to mount on.
mkdir -p /var/lib/kubelet || exit 1
unshare --pid --fork --kill-child --mount-proc --mount --net -- sh -c "$@"
code=$?
name=${folder##*/}
for attempt in 1 2 3 4 5; do
  find /sys/fs/cgroup -depth -type d \( -path "*/$name" -o -path "*/$name/*" \) \
    -exec rmdir {} + 2>/dev/null && break
  sleep 0.2
done
# An empty one is nobody's, unless another run is mounted on it.
ls -d /sys/fs/cgroup/oaat-node-* /sys/fs/cgroup/*/oaat-node-* >/dev/null 2>&1 ||
  rmdir /var/lib/kubelet 2>/dev/null
[ "$keep" ] || rm -rf --one-file-system -- "$folder"
exit $code
"#;

/// The first process inside. Its standard input ends when its starter is gone. It then ends the
/// program and itself, and with that everything. Its parameters are the node's address, the folders
/// to separate, and the program with its arguments.
const INSIDE: &str = r#"
set -e
mount --make-rshared /
for place in $2; do mount -t tmpfs tmpfs $place; done
# No network, so that names are unknown at once instead of after a while.
[ ! -f /etc/resolv.conf ] || mount --bind /dev/null /etc/resolv.conf
ip link set lo up
ip link add node0 type veth peer name node1
ip address add "$1/24" dev node0
ip link set node0 up; ip link set node1 up
# Leads nowhere, but servers ask for one to find their own address.
ip route add default via "${1%.*}.254" dev node0
shift 2
exec 3<&0
set +e
"$@" 3<&- </dev/null &
program=$!
{ cat <&3 >/dev/null; kill -KILL $program; } &
wait $program
"#;

/// Returns the folder for all files, if this process is inside the enclosure.
pub fn inside() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs this program again inside the enclosure, and waits for its end. If `keep` is set, the
/// folder with all logs remains.
///
/// # Errors
/// Returns an error if no shell can be started.
pub fn enter(arguments: &[String], keep: bool) -> Result<ExitStatus> {
    let program = std::env::current_exe().context("failed to find the path of this program")?;
    if let Some(place) = hidden(&program) {
        bail!(
            "{} is not visible in the enclosure, which has a separate {place}; build it elsewhere",
            program.display()
        );
    }
    let mut folder = std::env::temp_dir();
    if hidden(&folder).is_some() {
        folder = "/var/tmp".into();
    }
    let folder = folder.join(format!("{CGROUP}{}", std::process::id()));
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", OUTSIDE, "outside"])
        .arg(&folder)
        .arg(if keep { "keep" } else { "" })
        .args([INSIDE, "inside", ADDRESS, &HIDDEN.join(" ")])
        .arg(program)
        .args(arguments)
        .env(FOLDER, &folder)
        .env("TMPDIR", folder.join("tmp"))
        // Not in the process group that the terminal's Ctrl-C ends: it has to clean up.
        .process_group(0)
        .stdin(Stdio::piped());
    let mut shell = shell.spawn().context("cannot start /bin/sh")?;
    // Its input stays open until here, or until this process is killed.
    let input = shell.stdin.take();
    let status = shell.wait().context("cannot wait for the shell")?;
    drop(input);
    if keep {
        eprintln!("the files of the node are in {}", folder.display());
    }
    Ok(status)
}

/// Returns the separate folder that contains a path.
fn hidden(path: &Path) -> Option<&'static str> {
    HIDDEN.into_iter().find(|place| path.starts_with(place))
}

/// Creates the parent cgroup of all pods in every hierarchy, and returns its name.
pub(super) fn make_cgroup(folder: &Path) -> Result<String> {
    let name = folder
        .file_name()
        .and_then(OsStr::to_str)
        .context("the folder of the node has no name")?;
    let root = Path::new("/sys/fs/cgroup");
    let unified = root.join("cgroup.controllers").exists();
    let mut hierarchies = vec![root.to_owned()];
    if !unified {
        hierarchies = std::fs::read_dir(root)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            // The names of single controllers of a shared hierarchy are links.
            .filter(|path| path.is_dir() && !path.is_symlink())
            .collect();
    }
    for hierarchy in hierarchies {
        let folder = hierarchy.join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create the cgroup {}", folder.display()))?;
        // A cpuset without processors cannot hold a process; copy the parent's.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = std::fs::read(hierarchy.join(file)) {
                let _ = std::fs::write(folder.join(file), all);
            }
        }
    }
    Ok(format!("/{name}"))
}
