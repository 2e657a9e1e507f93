//! The end of a server whose machine fails: all its processes at once, none of which can tidy up.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Server, system};

/// How long the system may take to end what was killed.
const GONE_MAX: Duration = Duration::from_secs(10);
/// The line of the server's file that names its shared memory: a key, and the number that the system gave.
const MEMORY_LINE: usize = 6;

impl Server {
    /// SIGKILL to every process of it. It is not meant to come back.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<(), Error> {
        let file = self.folder.join("data/postmaster.pid");
        let about = fs::read_to_string(&file).map_err(system("postmaster.pid"))?;
        let main = about.lines().next().unwrap_or_default().trim().to_owned();
        // Stopped, it starts no further one while the others are looked for.
        signal("STOP", std::slice::from_ref(&main))?;
        let mut all = children(&main)?;
        all.push(main);
        signal("KILL", &all)?;
        let deadline = Instant::now() + GONE_MAX;
        while all.iter().any(|process| is_alive(process)) {
            if Instant::now() > deadline {
                return Err(Error::Failed {
                    program: "kill".to_owned(),
                    said: format!("{all:?} are still there after {GONE_MAX:?}"),
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
        // What a server leaves when it can't tidy up; its number may be another process's by the time of the end.
        remove_memory(&about);
        fs::remove_file(&file).map_err(system("postmaster.pid"))
    }
}

/// The shell's own: a small machine may have no program `kill`.
fn signal(name: &str, processes: &[String]) -> Result<(), Error> {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$@\"", "sh", name])
        .args(processes)
        .stdin(Stdio::null())
        .status()
        .map_err(system("sh"))?;
    // A child may have ended by itself meanwhile, which the shell reports.
    if status.success() || name == "KILL" {
        return Ok(());
    }
    Err(Error::Failed {
        program: "kill".to_owned(),
        said: status.to_string(),
    })
}

fn children(of: &str) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(system("/proc"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let parent = state(&name).map(|(_, parent)| parent);
        if parent.as_deref() == Some(of) {
            found.push(name);
        }
    }
    Ok(found)
}

/// Not one that has ended and that nobody has asked about yet.
fn is_alive(process: &str) -> bool {
    state(process).is_some_and(|(letter, _)| letter != "Z" && letter != "X")
}

/// How a process is, as a letter, and its parent.
fn state(process: &str) -> Option<(String, String)> {
    let path = Path::new("/proc").join(process).join("stat");
    let text = fs::read_to_string(path).ok()?;
    // The name stands in parentheses, and may hold some itself.
    let (_, behind) = text.rsplit_once(')')?;
    let mut fields = behind.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}

fn remove_memory(about: &str) {
    let line = about.lines().nth(MEMORY_LINE).unwrap_or_default();
    if let Some(number) = line.split_whitespace().nth(1) {
        // It is a few bytes: where the program is missing they stay until the machine starts anew.
        let _ = Command::new("ipcrm")
            .args(["--shmem-id", number])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
