//! What the tests need of the machine, and how it gets there on Debian.
//!
//! Only what is missing is installed, and it is said what. Root is needed for that and for network
//! namespaces alone. Under continuous integration a missing thing is a failure; elsewhere it is a
//! skip with its reason.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::process::{self, Run as _};
use crate::workspace::{self, Workspace};

/// A program from one of Debian's packages.
pub(crate) struct Tool {
    /// The program's name.
    pub(crate) program: &'static str,
    /// The package that brings it.
    pub(crate) package: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
}

/// What checks the golden vectors without our code.
pub(crate) const FOR_GOLDEN_VECTORS: &[Tool] = &[
    Tool {
        program: "openssl",
        package: "openssl",
        purpose: "checks the golden vectors without our code",
    },
    Tool {
        program: "sha256sum",
        package: "coreutils",
        purpose: "checks the golden vectors without our code",
    },
];

/// A real name server, which the tests of discovery ask.
pub(crate) const FOR_DISCOVERY: &[Tool] = &[
    Tool {
        program: "knotd",
        package: "knot",
        purpose: "answers the DNS questions of discovery",
    },
    Tool {
        program: "kzonesign",
        package: "knot-dnssecutils",
        purpose: "signs the zones",
    },
];

/// A database, on which a store may stand.
pub(crate) const FOR_DATABASES: &[Tool] = &[
    Tool {
        program: "initdb",
        package: "postgresql",
        purpose: "makes the databases of the store's tests",
    },
    Tool {
        program: "setpriv",
        package: "util-linux",
        purpose: "runs the database as a user that is not root",
    },
];

/// A log server that gets the audit log.
pub(crate) const FOR_LOG_SERVERS: &[Tool] = &[
    Tool {
        program: "rsyslogd",
        package: "rsyslog",
        purpose: "takes the audit log",
    },
    Tool {
        program: "lmnsd_ossl.so",
        package: "rsyslog-openssl",
        purpose: "lets rsyslog take it over TLS 1.3",
    },
];

/// What the trials run.
pub(crate) const FOR_TRIALS: &[Tool] = &[
    Tool {
        program: "ip",
        package: "iproute2",
        purpose: "puts two homeservers into network namespaces",
    },
    Tool {
        program: "nft",
        package: "nftables",
        purpose: "cuts the network between them",
    },
    Tool {
        program: "script",
        package: "bsdutils",
        purpose: "gives chat a terminal",
    },
];

/// What the trial of the store runs: it makes file systems and spoils them.
pub(crate) const FOR_STORE_TRIAL: &[Tool] = &[
    Tool {
        program: "mkfs.ext4",
        package: "e2fsprogs",
        purpose: "makes a file system whose power is cut",
    },
    Tool {
        program: "mount",
        package: "mount",
        purpose: "mounts it",
    },
    Tool {
        program: "umount",
        package: "mount",
        purpose: "takes it away again",
    },
    Tool {
        program: "perl",
        package: "perl-base",
        purpose: "cuts the power: one ioctl",
    },
    Tool {
        program: "strace",
        package: "strace",
        purpose: "lets a sync fail",
    },
];

/// What building and running container images takes.
pub(crate) const FOR_CONTAINERS: &[Tool] = &[
    Tool {
        program: "podman",
        package: "podman",
        purpose: "builds and runs the images",
    },
    Tool {
        program: "runc",
        package: "runc",
        purpose: "starts the containers",
    },
    Tool {
        program: "netavark",
        package: "netavark",
        purpose: "container networks",
    },
    Tool {
        program: "debootstrap",
        package: "debootstrap",
        purpose: "makes a base image without a registry",
    },
    Tool {
        program: "iptables",
        package: "iptables",
        purpose: "the network between containers",
    },
    Tool {
        program: "aardvark-dns",
        package: "aardvark-dns",
        purpose: "names of containers",
    },
    Tool {
        program: "podman-compose",
        package: "podman-compose",
        purpose: "reads the compose file",
    },
];

/// What is still missing after trying to install it: nothing, or the reason why not.
pub(crate) enum Ready {
    /// Everything is there.
    Yes,
    /// Something is not, and this run goes on without what needs it.
    No(String),
}

/// Installs what is missing, if this user may; under continuous integration a lack is a failure.
pub(crate) fn prepare(tools: &[Tool]) -> Result<Ready> {
    prepare_with(
        tools,
        |program| find_program(program).is_some(),
        |packages| {
            if !is_root() || find_program("apt-get").is_none() {
                return Ok(());
            }
            process::step(&format!("install {}", packages.join(" ")), || {
                install(packages)
            })
        },
        workspace::under_ci(),
    )
}

/// The same for a machine that is described: what is there, and what becomes of an attempt to install.
fn prepare_with(
    tools: &[Tool],
    is_there: impl Fn(&str) -> bool,
    install: impl FnOnce(&[&str]) -> Result,
    nothing_may_be_skipped: bool,
) -> Result<Ready> {
    let missing: Vec<&Tool> = tools
        .iter()
        .filter(|tool| !is_there(tool.program))
        .collect();
    if missing.is_empty() {
        return Ok(Ready::Yes);
    }
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.dedup();
    for tool in &missing {
        eprintln!(
            "{} is missing (Debian package {}): {}",
            tool.program, tool.package, tool.purpose
        );
    }
    // Without a network that fails; what is missing then is skipped as it is without root.
    let failed = match install(&packages) {
        Ok(()) => String::new(),
        Err(failure) => format!(", and installing failed ({failure})"),
    };
    let still: Vec<&str> = missing
        .iter()
        .map(|tool| tool.program)
        .filter(|program| !is_there(program))
        .collect();
    if still.is_empty() {
        return Ok(Ready::Yes);
    }
    let reason = format!(
        "{} not found{failed}; as root, with a network: apt-get update && apt-get install --no-install-recommends {}",
        still.join(", "),
        packages.join(" ")
    );
    if nothing_may_be_skipped {
        Err(Failure::Missing(reason))
    } else {
        Ok(Ready::No(reason))
    }
}

/// Whether this user may do what only root may.
pub(crate) fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .captured()
        .is_ok_and(|printed| printed.trim() == "0")
}

/// Where a program is: on the path, in a folder for administrators, in that of a version of PostgreSQL, or among rsyslog's
/// modules.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/lib/podman"].map(PathBuf::from))
        .chain(versions.flatten().map(|version| version.path().join("bin")))
        .chain(
            libraries
                .flatten()
                .map(|library| library.path().join("rsyslog")),
        )
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// A program that cargo installs, in the version that we name; built once and kept in the target folder,
/// apart from what the user has installed for himself.
pub(crate) fn cargo_tool(workspace: &Workspace, name: &str, version: &str) -> Result<PathBuf> {
    let folder = workspace.target.join("tools");
    let binary = folder.join("bin").join(name);
    let wanted = format!("{name} {version}");
    let present = Command::new(&binary).arg("--version").output();
    if present.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted) {
        return Ok(binary);
    }
    process::step(&format!("install {wanted}"), || {
        let mut install = workspace.cargo(["install", "--locked", "--debug", "--version", version]);
        // The workspace's own target folder is no place for another program's dependencies.
        install
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_BUILD_TARGET")
            .args([name, "--force", "--root"])
            .arg(&folder)
            .shown()
    })?;
    Ok(binary)
}

/// Where cargo keeps what it fetched and installed.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .ok_or_else(|| Failure::Missing("neither CARGO_HOME nor HOME is set".to_owned()))
}

fn install(packages: &[&str]) -> Result {
    let mut update = Command::new("apt-get");
    update.args(["--quiet", "--quiet", "update"]).shown()?;
    let mut install = Command::new("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args([
            "--quiet",
            "--quiet",
            "--yes",
            "install",
            "--no-install-recommends",
        ])
        .args(packages)
        .shown()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const TOOLS: &[Tool] = &[
        Tool {
            program: "one",
            package: "pack",
            purpose: "is there",
        },
        Tool {
            program: "two",
            package: "pack-two",
            purpose: "is not",
        },
    ];

    /// Goal: what can't be installed, by root without a network too, is a skip with its reason, and under CI a failure;
    /// what can be is asked for alone. Method: machines that lack one program of two.
    #[test]
    fn what_cannot_be_installed_is_skipped() {
        let lacks_two = |program: &str| program == "one";
        let no_network = |_: &[&str]| Err(Failure::Missing("apt-get update failed".to_owned()));
        let Ok(Ready::No(reason)) = prepare_with(TOOLS, lacks_two, no_network, false) else {
            panic!("a failing apt-get ends the run");
        };
        assert!(
            reason.starts_with("two not found, and installing failed ("),
            "{reason}"
        );
        assert!(reason.contains("apt-get update failed"), "{reason}");
        assert!(
            reason.ends_with("install --no-install-recommends pack-two"),
            "{reason}"
        );
        assert!(prepare_with(TOOLS, lacks_two, no_network, true).is_err());
        // Neither root nor a failure.
        let Ok(Ready::No(reason)) = prepare_with(TOOLS, lacks_two, |_| Ok(()), false) else {
            panic!("it is still missing");
        };
        assert!(reason.starts_with("two not found; as root"), "{reason}");
        let installed = Cell::new(false);
        let ready = prepare_with(
            TOOLS,
            |program| program == "one" || installed.get(),
            |packages| {
                assert_eq!(packages, ["pack-two"]);
                installed.set(true);
                Ok(())
            },
            true,
        );
        assert!(matches!(ready, Ok(Ready::Yes)));
    }
}
