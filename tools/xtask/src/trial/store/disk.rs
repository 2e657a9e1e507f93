//! File systems that are made to be spoilt: one on a loop device, whose power can be cut, and one in memory, which is
//! soon full. Root is needed for both.
//!
//! They are taken away when they are dropped, so whatever uses one has to be dropped before it. What a run leaves that
//! is killed itself, `findmnt` shows.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::failure::{self, Failure, Result};
use crate::machine;
use crate::process::Run as _;
use crate::workspace;

/// `FS_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from now on nothing more reaches the device, not even what the
/// file system has in its journal's memory. By Perl, because calling it is unsafe code in Rust and no program has it.
const CUT: &str = "open(my $folder, '<', $ARGV[0]) or die \"$ARGV[0]: $!\\n\"; my $flags = pack('L', 2); \
                   ioctl($folder, 0x8004587D, $flags) or die \"FS_IOC_SHUTDOWN: $!\\n\";";
/// How often, and how long apart, a file system is asked to go: whoever used it may just be ending.
const TIMES: u32 = 50;
const APART: Duration = Duration::from_millis(100);

/// A mounted file system; gone when dropped.
struct Mounted {
    at: PathBuf,
    is_gone: bool,
}

impl Mounted {
    fn mount(kind: &str, options: &str, what: &OsStr, at: &Path) -> Result<Self> {
        program("mount")
            .args(["-t", kind, "-o", options])
            .arg(what)
            .arg(at)
            .shown()?;
        Ok(Self {
            at: at.to_path_buf(),
            is_gone: false,
        })
    }

    /// Takes it away now: nobody may use it any more.
    fn take_away(mut self) -> Result {
        self.is_gone = unmount(&self.at);
        match self.is_gone {
            true => Ok(()),
            false => Err(Failure::DidNotHold(format!(
                "{} is still in use and can't be unmounted",
                self.at.display()
            ))),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.is_gone && !unmount(&self.at) {
            // Whoever still uses it keeps it; nobody else finds it any more.
            let _ = program("umount").arg("--lazy").arg(&self.at).shown();
        }
    }
}

fn unmount(at: &Path) -> bool {
    for _ in 0..TIMES {
        if program("umount").arg(at).succeeds() {
            return true;
        }
        thread::sleep(APART);
    }
    false
}

/// ext4 on a loop device; its image stays when it is dropped.
pub(super) struct Disk {
    image: PathBuf,
    at: PathBuf,
    mounted: Option<Mounted>,
}

impl Disk {
    /// Makes one of so many MiB in `folder`. It takes the space alone that is used.
    pub(super) fn make(folder: &Path, mebibytes: u64) -> Result<Self> {
        let image = folder.join("image");
        let file = File::create(&image).map_err(failure::at(&image))?;
        file.set_len(mebibytes.saturating_mul(1024 * 1024))
            .map_err(failure::at(&image))?;
        program("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&image)
            .shown()?;
        let mut disk = Self {
            image,
            at: workspace::folder(&folder.join("disk"))?,
            mounted: None,
        };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(super) fn at(&self) -> &Path {
        &self.at
    }

    /// Cuts its power: what was not synced is gone, and nothing can be read or written until it is mended.
    pub(super) fn cut(&self) -> Result {
        Command::new("perl").args(["-e", CUT]).arg(&self.at).shown()
    }

    /// Mounts it anew: the power is back. Nobody may use it.
    pub(super) fn mend(&mut self) -> Result {
        if let Some(mounted) = self.mounted.take() {
            mounted.take_away()?;
        }
        self.mount()
    }

    /// The loop device goes with the mount.
    fn mount(&mut self) -> Result {
        let mounted = Mounted::mount("ext4", "loop", self.image.as_os_str(), &self.at)?;
        self.mounted = Some(mounted);
        Ok(())
    }
}

/// A file system in memory.
pub(super) struct Memory {
    mounted: Mounted,
}

impl Memory {
    /// Makes one of so many MiB in `folder`.
    pub(super) fn make(folder: &Path, mebibytes: u64) -> Result<Self> {
        let at = workspace::folder(&folder.join("memory"))?;
        let mounted = Mounted::mount("tmpfs", &size(mebibytes), OsStr::new("tmpfs"), &at)?;
        Ok(Self { mounted })
    }

    /// Where it is mounted.
    pub(super) fn at(&self) -> &Path {
        &self.mounted.at
    }

    /// Gives it another size.
    pub(super) fn resize(&self, mebibytes: u64) -> Result {
        let options = format!("remount,{}", size(mebibytes));
        program("mount")
            .args(["-o", &options])
            .arg(self.at())
            .shown()
    }
}

fn size(mebibytes: u64) -> String {
    format!("size={mebibytes}m")
}

/// A program for administrators, wherever it is.
fn program(name: &str) -> Command {
    let mut command = Command::new(machine::find_program(name).unwrap_or_else(|| name.into()));
    command.stdin(Stdio::null());
    command
}
