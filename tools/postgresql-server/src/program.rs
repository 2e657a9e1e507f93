//! PostgreSQL's programs: where they are, and as whom they run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::{Error, system, text};

/// Where Debian puts each major version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The user of Debian's package: the server refuses to run as root.
const USER: &str = "postgres";
/// Seconds that the server may take to start or stop.
const CONTROL_SECONDS: &str = "30";

/// The programs of one version.
pub(crate) struct Programs {
    folder: PathBuf,
    as_root: bool,
}

impl Programs {
    /// Those of the newest version, or those on the path.
    pub(crate) fn find() -> Result<Self, Error> {
        let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
        let mut versions: Vec<(u32, PathBuf)> = versions
            .filter_map(|entry| {
                let number = entry.file_name().to_str()?.parse().ok()?;
                Some((number, entry.path().join("bin")))
            })
            .collect();
        versions.sort();
        let on_path = env::var_os("PATH").unwrap_or_default();
        let folder = versions
            .into_iter()
            .rev()
            .map(|(_, folder)| folder)
            .chain(env::split_paths(&on_path))
            .find(|folder| folder.join("initdb").is_file() && folder.join("pg_ctl").is_file())
            .ok_or(Error::NotInstalled)?;
        Ok(Self {
            folder,
            as_root: is_root(),
        })
    }

    /// Gives all that is in `folder` to whom the server runs as.
    pub(crate) fn give(&self, folder: &Path) -> Result<(), Error> {
        if !self.as_root {
            return Ok(());
        }
        let mut command = Command::new("chown");
        command.args(["--recursive", USER]).arg(folder);
        output(command, "chown").map(drop)
    }

    /// The words that run one of the programs as whom the server runs.
    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        let program = text(&self.folder.join(name)).to_owned();
        if !self.as_root {
            return vec![program];
        }
        let group = format!("--regid={USER}");
        let user = format!("--reuid={USER}");
        let as_user = ["setpriv", &user, &group, "--init-groups", &program];
        as_user.map(str::to_owned).into()
    }

    /// Runs one of the programs; what it prints.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Result<String, Error> {
        let words = self.words(name);
        let (program, before) = words.split_first().ok_or(Error::NotInstalled)?;
        let mut command = Command::new(program);
        command.args(before).args(arguments);
        output(command, name)
    }

    /// Has `pg_ctl` start or stop the server in `folder`, and waits until that is done.
    pub(crate) fn control(&self, folder: &Path, what: &[&str]) -> Result<(), Error> {
        let (data, log) = (folder.join("data"), folder.join("log"));
        let mut arguments = vec!["--silent", "--wait", "--timeout", CONTROL_SECONDS];
        arguments.extend(["--pgdata", text(&data), "--log", text(&log)]);
        arguments.extend(what);
        self.run("pg_ctl", &arguments)
            .map(drop)
            .map_err(|error| match error {
                Error::Failed { program, said } => Error::Failed {
                    program,
                    said: said + &fs::read_to_string(&log).unwrap_or_default(),
                },
                error => error,
            })
    }
}

fn output(mut command: Command, name: &str) -> Result<String, Error> {
    // A server that is started would keep pipes open for as long as it runs: files end by themselves.
    let printed = tempfile::tempfile().map_err(system("a file"))?;
    let complained = tempfile::tempfile().map_err(system("a file"))?;
    let status = command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(printed.try_clone().map_err(system("a file"))?)
        .stderr(complained.try_clone().map_err(system("a file"))?)
        .status()
        .map_err(system(name))?;
    if status.success() {
        return read(printed);
    }
    Err(Error::Failed {
        program: name.to_owned(),
        said: read(complained)?,
    })
}

fn read(mut file: fs::File) -> Result<String, Error> {
    use std::io::{Read as _, Seek as _};
    let mut text = String::new();
    file.rewind()
        .and_then(|()| file.read_to_string(&mut text))
        .map_err(system("a file"))?;
    Ok(text)
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
