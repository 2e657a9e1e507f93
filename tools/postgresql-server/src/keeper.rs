//! What ends a server when nobody needs it any more.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::program::Programs;
use crate::{Error, system, text};

/// Waits until its standard input is closed, which the end of a process does, however it ends; then stops
/// the server and removes its folder. A signal to the terminal's processes is not for it.
const SCRIPT: &str = "\
trap '' INT TERM HUP
cat >/dev/null
folder=$1
shift
if [ -f \"$folder/data/postmaster.pid\" ]; then
    \"$@\" --silent --wait --mode=immediate --pgdata \"$folder/data\" stop
fi
rm -rf \"$folder\"
";

/// A process that waits for the end of this one.
pub(crate) struct Keeper(Child);

impl Keeper {
    /// Starts it before there is anything to keep.
    pub(crate) fn start(programs: &Programs, folder: &Path) -> Result<Self, Error> {
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "keeper", text(folder)])
            .args(programs.words("pg_ctl"))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(system("sh"))?;
        Ok(Self(child))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
