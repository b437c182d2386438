//! The files of a release. The same commit results in the same bytes, in any directory.

mod sbom;

use crate::archive::{DATA, Files, PROGRAM, hex};
use crate::cross::{self, Arch, Compiler};
use crate::{cargo, image, root, target, tools};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The file with the digests of all other files.
const CHECKSUMS: &str = "SHA256SUMS";

/// The built-in policies except the default one.
const POLICIES: [&str; 3] = include!("../../crates/built-in-policies/names.rs");

/// What to build, and where it will be published.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The directory to write. The default is target/release-VERSION.
    #[arg(long)]
    output: Option<PathBuf>,
    /// The name of the image, without a tag, in the chart and in the manifests.
    #[arg(long, default_value = image::NAME)]
    image: String,
    /// The URL of the GitHub repository. The krew manifest downloads the archives from its releases.
    #[arg(long, default_value = "https://localhost/oaat-operator")]
    repository: String,
    /// Build only for this architecture. Can be repeated.
    #[arg(long = "arch", value_enum, default_values = ["amd64", "arm64"])]
    archs: Vec<Arch>,
    /// Build the same commit again in another directory, and fail if a file differs.
    #[arg(long)]
    verify: bool,
}

/// The files of a release, by name.
type Release = BTreeMap<String, Vec<u8>>;

/// Writes a release.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.verify {
        check_committed()?;
    }
    let default = || target().join(format!("release-{VERSION}"));
    let output = options.output.clone().unwrap_or_else(default);
    empty(&output)?;
    let mut archs = options.archs.clone();
    archs.sort_unstable();
    archs.dedup();
    tools::wasm_target()?;
    cross::build(&archs, &["oaat-operator", "kubectl-oaat"], Compiler::Pinned)?;
    let mut release = Release::new();
    let digest = add_images(&mut release, &archs, &options.image)?;
    add_programs(&mut release, &archs, &options.repository)?;
    add_policies(&mut release, &archs)?;
    add_manifests(&mut release, &options.image)?;
    let chart = format!("oaat-operator-{VERSION}.tgz");
    release.insert(chart, chart_archive(&options.image)?);
    add_sboms(&mut release, &archs)?;
    let checksums = checksums(&release);
    release.insert(CHECKSUMS.to_owned(), checksums.clone().into_bytes());
    for (name, bytes) in &release {
        let path = output.join(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    print!("{checksums}");
    println!("image {}:{VERSION} {digest}", options.image);
    println!("wrote {}", output.display());
    if options.verify {
        verify(options, &archs, &checksums)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates the directory, or removes the files of an earlier release from it.
fn empty(output: &Path) -> Result<()> {
    if output.join(CHECKSUMS).is_file() {
        fs::remove_dir_all(output).with_context(|| output.display().to_string())?;
    }
    fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    if fs::read_dir(output)?.next().is_some() {
        bail!(
            "--output {}: the directory is not empty and contains no release; use another one",
            output.display()
        );
    }
    Ok(())
}

/// Adds the image for all architectures, an archive for each one, and its digest.
fn add_images(release: &mut Release, archs: &[Arch], name: &str) -> Result<String> {
    let mut programs = Vec::new();
    for arch in archs {
        programs.push((*arch, cross::read(*arch, "oaat-operator")?));
    }
    for (arch, program) in &programs {
        let archive = image::docker_archive(*arch, program, name)?;
        let file = format!("oaat-operator-{VERSION}-image-linux-{}.tar", arch.name());
        release.insert(file, archive);
    }
    let programs: Vec<_> = programs.iter().map(|(arch, p)| (*arch, &p[..])).collect();
    let (archive, digest) = image::oci_archive(&programs, name)?;
    release.insert(format!("oaat-operator-{VERSION}-image.tar"), archive);
    release.insert(
        format!("oaat-operator-{VERSION}-image.digest"),
        format!("{digest}\n").into_bytes(),
    );
    Ok(digest)
}

/// Adds an archive of the command line for each architecture, and the krew manifest.
fn add_programs(release: &mut Release, archs: &[Arch], repository: &str) -> Result<()> {
    let license = root().join("LICENSE");
    let license = fs::read(&license).with_context(|| license.display().to_string())?;
    let mut platforms = String::new();
    for arch in archs {
        let mut files = Files::default();
        let program = cross::read(*arch, "kubectl-oaat")?;
        files.add("kubectl-oaat", PROGRAM, program);
        files.add("LICENSE", DATA, license.clone());
        let archive = files.tar_gz()?;
        let file = format!("kubectl-oaat-{VERSION}-linux-{}.tar.gz", arch.name());
        platforms += &krew_platform(*arch, repository, &file, &hex(&archive));
        release.insert(file, archive);
    }
    let manifest = krew_manifest(repository, &platforms);
    release.insert("oaat.yaml".to_owned(), manifest.into_bytes());
    Ok(())
}

/// Adds the built-in policies as ConfigMaps, which the command line for this machine prints.
fn add_policies(release: &mut Release, archs: &[Arch]) -> Result<()> {
    let arch = Arch::of_this_machine()?;
    if !archs.contains(&arch) {
        println!(
            "the built-in policies are omitted; add --arch {}",
            arch.name()
        );
        return Ok(());
    }
    for policy in POLICIES {
        let name = format!("policy-{policy}");
        let packed = Command::new(cross::path(arch, "kubectl-oaat"))
            .args(["policy", "pack", policy, "--gzip", "--name", &name])
            .output()
            .context("failed to start kubectl-oaat")?;
        if !packed.status.success() {
            let error = String::from_utf8_lossy(&packed.stderr);
            bail!("failed to pack the policy {policy}: {}", error.trim());
        }
        release.insert(format!("{name}.yaml"), packed.stdout);
    }
    Ok(())
}

/// Returns the krew manifest of the plugin.
fn krew_manifest(repository: &str, platforms: &str) -> String {
    format!(
        "apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: oaat
spec:
  version: v{VERSION}
  homepage: {repository}
  shortDescription: Show and run the items of OaatGroups
  description: |
    Shows, runs, suspends, and validates OaatGroups, explains why an item is not
    running, and builds, tests, and packages selection policies.
  caveats: |
    Most commands need the CustomResourceDefinitions of oaat-operator in the cluster.
  platforms:
{platforms}"
    )
}

/// Returns the entry of an architecture in the krew manifest.
fn krew_platform(arch: Arch, repository: &str, file: &str, digest: &str) -> String {
    format!(
        "  - selector:
      matchLabels:
        os: linux
        arch: {}
    uri: {repository}/releases/download/v{VERSION}/{file}
    sha256: {digest}
    bin: kubectl-oaat
",
        arch.name()
    )
}

/// Adds the manifests for kubectl, including the CRDs.
fn add_manifests(release: &mut Release, image: &str) -> Result<()> {
    let folder = root().join("manifests");
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            release.insert(
                name.into_owned(),
                text.replace(image::NAME, image).into_bytes(),
            );
        }
    }
    Ok(())
}

/// Returns the archive of the chart. Helm checks and packages it, but adds the current time.
fn chart_archive(image: &str) -> Result<Vec<u8>> {
    let folder = target().join("release-chart");
    let packaged = Command::new(tools::helm()?.helm)
        .current_dir(root())
        .args(["package", "charts/oaat-operator", "--destination"])
        .arg(&folder)
        .output()
        .context("failed to start helm")?;
    if !packaged.status.success() {
        let error = String::from_utf8_lossy(&packaged.stderr);
        bail!("failed to package the chart: {}", error.trim());
    }
    let path = folder.join(format!("oaat-operator-{VERSION}.tgz"));
    let archive = fs::read(&path).with_context(|| {
        format!(
            "{}; set the version in charts/oaat-operator/Chart.yaml to {VERSION}",
            path.display()
        )
    })?;
    fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut files = Files::from_tar_gz(&archive)?;
    let values = "oaat-operator/values.yaml";
    let values = files
        .get_mut(values)
        .with_context(|| format!("the chart has no {values}"))?;
    let text = std::str::from_utf8(values)?;
    let default = format!("  repository: {}\n", image::NAME);
    if text.matches(&default).count() != 1 {
        bail!("values.yaml of the chart does not contain {default:?} once");
    }
    *values = text
        .replace(&default, &format!("  repository: {image}\n"))
        .into_bytes();
    files.tar_gz()
}

/// Adds the software bill of materials of each program.
fn add_sboms(release: &mut Release, archs: &[Arch]) -> Result<()> {
    let lock = root().join("Cargo.lock");
    let lock = fs::read_to_string(&lock).with_context(|| lock.display().to_string())?;
    let crates = sbom::Crates::of_binaries(archs, &POLICIES)?;
    for program in ["oaat-operator", "kubectl-oaat"] {
        let name = format!("{program}-{VERSION}.cdx.json");
        release.insert(name, crates.document(program, &lock)?);
    }
    Ok(())
}

/// Returns the digests of files in the format of sha256sum.
fn checksums(release: &Release) -> String {
    release
        .iter()
        .map(|(name, bytes)| format!("{}  {name}\n", hex(bytes)))
        .collect()
}

/// Checks that the checkout is a commit, because only a commit is built again.
fn check_committed() -> Result<()> {
    let status = Command::new("git")
        .current_dir(root())
        .args(["status", "--porcelain"])
        .output()
        .context("failed to start git")?;
    if !status.status.success() || !status.stdout.is_empty() {
        bail!(
            "--verify builds the last commit again, but not all files are committed; commit them"
        );
    }
    Ok(())
}

/// Builds the release again from a clone, with nothing from the first build, and compares.
fn verify(options: &Options, archs: &[Arch], expected: &str) -> Result<()> {
    let copy = target().join("release-verify");
    if copy.exists() {
        fs::remove_dir_all(&copy).with_context(|| copy.display().to_string())?;
    }
    let cloned = Command::new("git")
        .args(["clone", "--quiet"])
        .arg(root())
        .arg(&copy)
        .status();
    if !cloned.context("failed to start git")?.success() {
        bail!("failed to clone {}", root().display());
    }
    println!("building again in {}", copy.display());
    let output = copy.join("target/release");
    let mut build = cargo();
    build.current_dir(&copy).env_remove("CARGO_TARGET_DIR");
    build.args(["run", "--quiet", "--package", "xtask", "--", "release"]);
    build.args([
        "--image",
        &options.image,
        "--repository",
        &options.repository,
    ]);
    build.arg("--output").arg(&output);
    for arch in archs {
        build.args(["--arch", arch.name()]);
    }
    if !build.status().context("failed to start cargo")?.success() {
        bail!("the second build failed; see its output above");
    }
    let path = output.join(CHECKSUMS);
    let built = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let differing = differing(expected, &built);
    if !differing.is_empty() {
        bail!(
            "not reproducible: {}; the files of the second build are in {}",
            differing.into_iter().collect::<Vec<_>>().join(", "),
            output.display()
        );
    }
    fs::remove_dir_all(&copy).with_context(|| copy.display().to_string())?;
    println!("the second build has the same digests");
    Ok(())
}

/// Returns the files whose digests differ, or that only one of the lists contains.
fn differing<'a>(one: &'a str, other: &'a str) -> BTreeSet<&'a str> {
    let entries = |list: &'a str| -> BTreeSet<(&str, &str)> {
        list.lines()
            .filter_map(|line| line.split_once("  "))
            .collect()
    };
    entries(one)
        .symmetric_difference(&entries(other))
        .map(|(_, name)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn checksums_are_those_of_sha256sum() {
        let release = Release::from([("b".to_owned(), vec![]), ("a".to_owned(), b"a\n".to_vec())]);
        let a = "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7";
        assert_eq!(checksums(&release), format!("{a}  a\n{EMPTY}  b\n"));
    }

    #[test]
    fn differing_files_are_named() {
        assert!(differing("1  a\n2  b\n", "2  b\n1  a\n").is_empty());
        let names = differing("1  a\n2  b\n", "1  a\n3  b\n4  c\n");
        assert_eq!(names, BTreeSet::from(["b", "c"]));
    }

    #[test]
    fn krew_manifest_names_the_archive_and_its_digest() {
        let platform = krew_platform(Arch::Arm64, "https://host/repo", "file.tar.gz", EMPTY);
        let manifest = krew_manifest("https://host/repo", &platform);
        let expected = format!(
            "  platforms:\n  - selector:\n      matchLabels:\n        os: linux\n        \
             arch: arm64\n    uri: https://host/repo/releases/download/v{VERSION}/file.tar.gz\n    \
             sha256: {EMPTY}\n    bin: kubectl-oaat\n"
        );
        assert!(manifest.ends_with(&expected), "{manifest}");
    }

    #[test]
    fn output_with_other_files_is_not_removed() {
        let folder = std::env::temp_dir().join(format!("xtask-release-{}", std::process::id()));
        let write = |name: &str| fs::write(folder.join(name), "").expect("it is writable");
        empty(&folder).expect("it does not exist");
        write("notes");
        let error = empty(&folder).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
        write(CHECKSUMS);
        empty(&folder).expect("it contains a release");
        assert!(!folder.join("notes").exists());
        fs::remove_dir_all(&folder).expect("it is writable");
    }
}
