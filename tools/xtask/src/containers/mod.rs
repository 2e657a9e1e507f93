//! `cargo xtask containers`: builds the image for real, looks at what is in it, and passes the
//! demonstration's checks against homeservers that run in containers of it.
//!
//! No image registry is asked: the builder image is made with debootstrap and the toolchain of this
//! machine is lent to it, as are the crates that cargo has fetched. Needs root, for podman keeps its
//! images and containers in a folder of ours.

mod compose;
mod podman;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use self::podman::Podman;
use crate::failure::{self, Failure, Result};
use crate::machine::{self, Ready};
use crate::process::{self, Run as _};
use crate::workspace::{self, Workspace};

/// The image that the Dockerfile makes.
const IMAGE: &str = "localhost/entente";
/// Where the image is built: Debian, a C compiler, and what this machine lends.
const BUILDER: &str = "localhost/entente-builder";
/// The user and group that the image runs as.
const USER: &str = "65532:65532";
/// The image holds three static programs; more than this means that something crept in.
const IMAGE_BYTES_MAX: u64 = 120 << 20;
/// Stands in for the homeserver's binary and runs it in a container.
const STAND_IN: &str = include_str!("homeserver.sh");

/// How to build.
#[derive(Args)]
pub(crate) struct Options {
    /// The cargo profile of the programs in the image.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Build the image and look at it, without the demonstration.
    #[arg(long)]
    only_build: bool,
}

/// Builds, inspects and tries the image.
pub(crate) fn run(options: &Options) -> Result {
    let workspace = Workspace::find()?;
    if let Ready::No(reason) = machine::prepare(machine::FOR_CONTAINERS)? {
        return Err(Failure::Missing(reason));
    }
    if !machine::is_root() {
        return Err(Failure::Missing(
            "building and running containers here needs root".to_owned(),
        ));
    }
    let folder = workspace::folder(&workspace.target.join("containers"))?;
    let podman = Podman::in_folder(&folder);
    if !podman.has_image(BUILDER) {
        process::step("builder image", || builder_image(&podman, &folder))?;
    }
    process::step("image", || {
        image(&workspace, &podman, &folder, &options.profile)
    })?;
    process::step("what the image is", || inspect(&podman))?;
    if !options.only_build {
        process::step("the compose file", || {
            compose::tried(&workspace, &podman, &folder)
        })?;
        process::step("demonstration against containers", || {
            demonstration(&workspace, &podman, &folder)
        })?;
    }
    Ok(())
}

/// Makes a Debian with a C compiler.
fn builder_image(podman: &Podman, folder: &Path) -> Result {
    let base = folder.join("debian");
    if base.exists() {
        fs::remove_dir_all(&base).map_err(failure::at(&base))?;
    }
    let mut debootstrap = Command::new("debootstrap");
    debootstrap
        .args([
            "--variant=minbase",
            "--include=gcc,libc6-dev",
            &release_of_debian(),
        ])
        .arg(&base)
        .shown()?;
    let archive = folder.join("debian.tar");
    Command::new("tar")
        .arg("--create")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(&base)
        .arg(".")
        .shown()?;
    podman
        .command()
        .args(["import", "--quiet"])
        .args([
            "--change",
            "ENV PATH=/usr/local/toolchain/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ])
        .args(["--change", "ENV CARGO_HOME=/usr/local/cargo"])
        .arg(&archive)
        .arg(BUILDER)
        .shown()?;
    fs::remove_dir_all(&base).map_err(failure::at(&base))?;
    fs::remove_file(&archive).map_err(failure::at(&archive))
}

/// The Debian release of this machine, for its mirrors are known to work.
fn release_of_debian() -> String {
    fs::read_to_string("/etc/os-release")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .unwrap_or("bookworm")
        .to_owned()
}

/// Builds the image. The build folder outlives the container, so that only what changed is built again.
fn image(workspace: &Workspace, podman: &Podman, folder: &Path, profile: &str) -> Result {
    workspace.cargo(["fetch", "--locked"]).shown()?;
    let toolchain = workspace::rustc_sysroot()?;
    let registry = machine::cargo_home()?.join("registry");
    let built = workspace::folder(&folder.join("target"))?;
    let lend = |from: &Path, to: &str, mode: &str| format!("{}:{to}:{mode}", from.display());
    podman
        .command()
        .args([
            "build",
            "--network=none",
            "--no-cache",
            "--format=docker",
            "--layers=false",
        ])
        .args(podman::LIMITS)
        .args(["--volume", &lend(&toolchain, "/usr/local/toolchain", "ro")])
        .args([
            "--volume",
            &lend(&registry, "/usr/local/cargo/registry", "rw"),
        ])
        .args(["--volume", &lend(&built, "/source/target", "rw")])
        .args(["--build-arg", &format!("BUILDER={BUILDER}")])
        .args(["--build-arg", &format!("PROFILE={profile}")])
        .arg("--env=CARGO_NET_OFFLINE=true")
        .args(["--tag", IMAGE, "--file"])
        .arg(workspace.root.join("docker/Dockerfile"))
        .arg(&workspace.root)
        .shown()
}

/// The image is small, is no root's, and its programs start with nothing else around them.
fn inspect(podman: &Podman) -> Result {
    let user = podman.inspect(IMAGE, "{{.Config.User}}")?;
    hold(user == USER, || {
        format!("the image runs as `{user}`, not as {USER}")
    })?;
    let size = podman.inspect(IMAGE, "{{.Size}}")?;
    let bytes: u64 = size.parse().unwrap_or(u64::MAX);
    hold(bytes <= IMAGE_BYTES_MAX, || {
        format!("the image has {bytes} bytes")
    })?;
    for program in ["homeserver", "hsctl", "chat"] {
        let version = podman
            .run_confined()
            .args([
                "--network=none",
                "--entrypoint",
                &format!("/bin/{program}"),
                IMAGE,
                "--version",
            ])
            .captured()?;
        eprintln!(
            "{}: starts alone, read-only, without privileges",
            version.trim()
        );
    }
    eprintln!("user {user}, {} MiB", bytes >> 20);
    Ok(())
}

/// Runs the demonstration with a stand-in where it looks for the homeserver.
fn demonstration(workspace: &Workspace, podman: &Podman, folder: &Path) -> Result {
    let mut build = workspace.cargo(["build"]);
    build
        .args([
            "--package",
            "hsctl",
            "--package",
            "chat",
            "--package",
            "demo",
        ])
        .shown()?;
    let programs = workspace::folder(&folder.join("bin"))?;
    for program in ["hsctl", "chat", "demo"] {
        let to = programs.join(program);
        fs::copy(workspace.binaries().join(program), &to).map_err(failure::at(&to))?;
    }
    let stand_in = programs.join("homeserver");
    fs::write(&stand_in, STAND_IN).map_err(failure::at(&stand_in))?;
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755))
        .map_err(failure::at(&stand_in))?;
    let shared = tempfile::tempdir_in(folder).map_err(failure::at(folder))?;
    let data: PathBuf = workspace::folder(&shared.path().join("data"))?;
    let outcome = Command::new(programs.join("demo"))
        .arg("--json")
        .current_dir(&data)
        .env("TMPDIR", &data)
        .env("CONTAINER_PODMAN", podman.words())
        .env("CONTAINER_IMAGE", IMAGE)
        .env("CONTAINER_SHARED", shared.path())
        .shown();
    // Whatever the demonstration left behind ends with it; nothing else runs in this podman's folder.
    podman
        .command()
        .args(["rm", "--all", "--force", "--time", "0"])
        .shown()?;
    outcome
}

fn hold(holds: bool, else_say: impl FnOnce() -> String) -> Result {
    if holds {
        Ok(())
    } else {
        Err(Failure::DidNotHold(else_say()))
    }
}
