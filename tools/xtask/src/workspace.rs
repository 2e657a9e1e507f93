//! Where the workspace and what cargo builds of it are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::failure::{Failure, Result};
use crate::process::{self, Run as _};

/// The workspace that this xtask belongs to.
pub(crate) struct Workspace {
    /// Its root folder.
    pub(crate) root: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    /// How its binaries are built.
    pub(crate) profile: Profile,
}

/// How binaries are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As the demonstration and the tests are: quickly built.
    Dev,
    /// Optimised, with every check: for what is held to seconds.
    Measured,
}

impl Profile {
    /// Its folder below cargo's.
    const fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Measured => "measured",
        }
    }

    /// What tells cargo.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Measured => &["--profile", "measured"],
        }
    }
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn find() -> Result<Self> {
        let mut metadata = cargo();
        metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
        // `cargo run` sets the manifest folder: the workspace is the one that xtask was built from,
        // wherever the user stands.
        if let Some(own) = env::var_os("CARGO_MANIFEST_DIR") {
            metadata.current_dir(own);
        }
        let printed = metadata.captured()?;
        let metadata: Metadata =
            serde_json::from_str(&printed).map_err(|error| Failure::Unexpected {
                program: "cargo metadata".to_owned(),
                what: error.to_string(),
            })?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            profile: Profile::Dev,
        })
    }

    /// The same one, whose binaries are built to be measured.
    pub(crate) fn measured(self) -> Self {
        Self {
            profile: Profile::Measured,
            ..self
        }
    }

    /// The folder of the binaries.
    pub(crate) fn binaries(&self) -> PathBuf {
        self.target.join(self.profile.folder())
    }

    /// A cargo command in the root.
    pub(crate) fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = cargo();
        command
            .current_dir(&self.root)
            // Binaries are looked for where cargo puts them for this machine, which a named target changes.
            .env_remove("CARGO_BUILD_TARGET")
            .args(arguments);
        command
    }

    /// Builds every binary, in the dev profile exactly as the tests do (same features), so that nothing is built twice.
    pub(crate) fn build(&self) -> Result {
        let what = match self.profile {
            Profile::Dev => &[
                "build",
                "--workspace",
                "--bins",
                "--tests",
                "--features",
                EVERY_ENGINE,
            ][..],
            Profile::Measured => &["build", "--workspace", "--bins"],
        };
        process::step("build", || {
            self.cargo(what.iter().copied())
                .args(self.profile.arguments())
                .shown()
        })
    }

    /// Builds a homeserver whose protections a trial can switch off, and returns the binary.
    pub(crate) fn build_with_faults(&self) -> Result<PathBuf> {
        self.build_apart("faults", "homeserver", "homeserver/faults")
    }

    /// Builds one binary with features that it has in no other build, and returns it. It shares the
    /// dependencies already built, yet lies in a folder of its own: nothing else can start it by mistake.
    pub(crate) fn build_apart(
        &self,
        folder: &str,
        binary: &str,
        features: &str,
    ) -> Result<PathBuf> {
        let apart = self.target.join(folder);
        process::step(&format!("build {binary} with {features}"), || {
            let mut build = self.cargo(["build", "--workspace", "--bin", binary]);
            if self.profile == Profile::Dev {
                // Naming a test, the smallest, keeps the features of the dependencies those of the tests.
                build.args(["--test", "layering"]);
            }
            build
                .args(["--features", features])
                .args(self.profile.arguments())
                .env("CARGO_BUILD_BUILD_DIR", &self.target)
                .arg("--target-dir")
                .arg(&apart);
            build.shown()
        })?;
        Ok(apart.join(self.profile.folder()).join(binary))
    }
}

/// The engine that no build has by itself: the tests, and what they run, have it. A second build for its tests alone
/// took longer than all of them.
pub(crate) const EVERY_ENGINE: &str = "homeserver/sled";

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Whether this is a run by continuous integration, under which nothing may be skipped.
pub(crate) fn under_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}

/// The folder, made if it is not there.
pub(crate) fn folder(path: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(path).map_err(crate::failure::at(path))?;
    Ok(path.to_path_buf())
}

/// The folder of the toolchain in use.
pub(crate) fn rustc_sysroot() -> Result<PathBuf> {
    let printed = Command::new("rustc")
        .args(["--print", "sysroot"])
        .captured()?;
    Ok(PathBuf::from(printed.trim()))
}
