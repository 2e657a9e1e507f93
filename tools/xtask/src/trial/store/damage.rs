//! Bits are turned and files are cut: on a copy of a good store, one at a time, and then the copy is read as a whole.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::ledger::{Ledger, Verdict};
use super::process::{Ending, Load, Shown, Writer};
use super::{Case, judged};
use crate::failure::{self, Failure, Result};
use crate::trial::checks::Check;
use crate::workspace;

/// How often a copy is damaged; every fourth time a file is cut.
const BLOWS: u32 = 100;
const CUT_EVERY: u32 = 4;
/// How the store comes about: 2,000 messages a second, of which each is acknowledged some ten seconds later, so that all of them
/// get from the commit log to the index and much of that is deleted again.
const LOAD: Load = Load {
    waiting: Some(1_200),
    pause: 32,
    seconds: None,
};
const LASTS: Duration = Duration::from_secs(25);
/// Where the copies lie when it is there: a file system in memory.
const IN_MEMORY: &str = "/dev/shm";
/// Where the dice begin: the same in each run, as far as the files are.
const SEED: u64 = 2_026;
/// Most damages that are told in words.
const EXAMPLES_MAX: usize = 5;

/// Numbers that look like chance (SplitMix64).
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).checked_rem(sides).unwrap_or(0)
    }
}

/// A file of the store, and how many bytes of it there are before zeros alone follow.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    path: PathBuf,
    bytes: u64,
}

/// Every file below `folder` that has anything in it, in one order.
fn targets(folder: &Path) -> Result<Vec<Target>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(inner) = waiting.pop() {
        for entry in fs::read_dir(&inner).map_err(failure::at(&inner))? {
            let path = entry.map_err(failure::at(&inner))?.path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let content = fs::read(&path).map_err(failure::at(&path))?;
            let last = content.iter().rposition(|byte| *byte != 0);
            let path = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
            if let Some(last) = last {
                let bytes = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
                found.push(Target { path, bytes });
            }
        }
    }
    found.sort();
    Ok(found)
}

/// One damage.
#[derive(Debug)]
struct Blow {
    path: PathBuf,
    at: u64,
    /// The bit to turn; without, the file is cut off there.
    bit: Option<u8>,
}

impl Blow {
    /// The blow of this number. Every file is as likely as another: small ones hold what the rest hangs on.
    fn choose(targets: &[Target], number: u32, dice: &mut Dice) -> Option<Self> {
        let count = u64::try_from(targets.len()).ok()?;
        let target = targets.get(usize::try_from(dice.roll(count)).ok()?)?;
        let is_cut = number.is_multiple_of(CUT_EVERY);
        let bit = u8::try_from(dice.roll(8)).ok()?;
        Some(Self {
            path: target.path.clone(),
            at: dice.roll(target.bytes),
            bit: (!is_cut).then_some(bit),
        })
    }

    fn strike(&self, folder: &Path) -> Result {
        let path = folder.join(&self.path);
        let wrong = failure::at(&path);
        self.change(&path).map_err(wrong)
    }

    fn change(&self, path: &Path) -> std::io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        match self.bit {
            None => file.set_len(self.at),
            Some(bit) => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, self.at)?;
                let turned = byte.map(|byte| byte ^ (1_u8 << bit));
                file.write_all_at(&turned, self.at)
            }
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, at) = (self.path.display(), self.at);
        match self.bit {
            Some(bit) => write!(f, "bit {bit} of byte {at} of {path}"),
            None => write!(f, "{path} cut at byte {at}"),
        }
    }
}

/// What the damages have come to.
#[derive(Debug, Default)]
struct Outcome {
    /// All was there: what was damaged was not needed, or was mended.
    whole: u32,
    /// The store was refused, or reading it came to an error.
    told: u32,
    /// The program panicked: nothing wrong was served, and not well said.
    panicked: u32,
    /// Reading did not come to an end.
    hung: u32,
    /// Something was missing and no error told of it.
    silent: u32,
    /// Something was served that is not so.
    wrong: u32,
    examples: Vec<String>,
}

impl Outcome {
    fn take(&mut self, blow: &Blow, ending: &Ending, verdict: &Verdict) {
        let is_false = verdict.wrong > 0 || verdict.resurrected > 0 || verdict.duplicated > 0;
        let count = match ending {
            _ if is_false => &mut self.wrong,
            Ending::Whole if verdict.is_clean() => &mut self.whole,
            Ending::Whole => &mut self.silent,
            Ending::Told(_) => &mut self.told,
            Ending::Panicked(_) => &mut self.panicked,
            Ending::Hung => &mut self.hung,
        };
        *count = count.saturating_add(1);
        let is_bad = is_false
            || match ending {
                Ending::Whole => !verdict.is_clean(),
                Ending::Told(_) => false,
                Ending::Panicked(_) | Ending::Hung => true,
            };
        if is_bad && self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{blow}: {ending:?}, {verdict}"));
        }
    }

    fn holds(&self) -> bool {
        let told = [self.whole, self.told, self.panicked];
        let all = told.iter().copied().fold(0, u32::saturating_add);
        all == BLOWS && self.told > 0 && self.hung == 0 && self.silent == 0 && self.wrong == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} told, {} without any loss, {} ended by a panic; lost without an error {}, wrong bytes or messages served {}, hung {}",
            self.told, self.whole, self.panicked, self.silent, self.wrong, self.hung
        )?;
        match self.examples.as_slice() {
            [] => Ok(()),
            examples => write!(f, "; {}", examples.join("; ")),
        }
    }
}

pub(super) fn check(case: &Case<'_>) -> Result<Check> {
    let (got, ok) = judged(blows(case), Outcome::holds)?;
    Ok(Check {
        id: case.id,
        must: format!(
            "{BLOWS} times one bit of a file is turned, or a file cut: opening or reading tells of it, or all is there; lost \
             without an error 0, wrong bytes and messages served 0"
        ),
        got,
        ok: Some(ok),
        control: None,
    })
}

fn blows(case: &Case<'_>) -> Result<Outcome> {
    let logs = case.folder("whole")?;
    let in_memory = in_memory(&logs)?;
    let place = case.place(&logs, in_memory.path().join("whole"), None);
    let mut writer = Writer::start(&place, LOAD, Ledger::default())?;
    writer.wait_answered(1)?;
    thread::sleep(LASTS);
    let mut ledger = writer.kill()?;
    settle(&mut ledger, place.show()?)?;

    let targets = targets(&place.store)?;
    let copy = place.at(&in_memory.path().join("copy"));
    let mut dice = Dice(SEED);
    let mut outcome = Outcome::default();
    for number in 0..BLOWS {
        let Some(blow) = Blow::choose(&targets, number, &mut dice) else {
            break;
        };
        renew(&place.store, &copy.store)?;
        blow.strike(&copy.store)?;
        let shown = copy.show()?;
        outcome.take(&blow, &shown.ending, &ledger.judge(&shown.found));
    }
    Ok(outcome)
}

/// What the undamaged store holds is what every copy has to.
fn settle(ledger: &mut Ledger, shown: Shown) -> Result {
    let found = shown.whole()?;
    let verdict = ledger.judge(&found);
    if !verdict.holds() {
        return Err(Failure::DidNotHold(format!(
            "wrong before anything was damaged: {verdict}"
        )));
    }
    ledger.settle(&found);
    Ok(())
}

fn in_memory(otherwise: &Path) -> Result<tempfile::TempDir> {
    let memory = Path::new(IN_MEMORY);
    let parent = match memory.is_dir() {
        true => memory,
        false => otherwise,
    };
    tempfile::Builder::new()
        .prefix("entente-store-")
        .tempdir_in(parent)
        .map_err(failure::at(parent))
}

/// Makes `copy` what `whole` is.
fn renew(whole: &Path, copy: &Path) -> Result {
    if copy.is_dir() {
        fs::remove_dir_all(copy).map_err(failure::at(copy))?;
    }
    copy_folder(whole, copy)
}

fn copy_folder(from: &Path, to: &Path) -> Result {
    workspace::folder(to)?;
    for entry in fs::read_dir(from).map_err(failure::at(from))? {
        let entry = entry.map_err(failure::at(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(failure::at(&source))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: blows hit what is in files, not the zeros behind it, and change one bit or the length. Method: many blows at
    /// a folder of two files, one of which is empty.
    #[test]
    fn blows_hit() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let content: [u8; 6] = [7, 0, 7, 0, 0, 0];
        fs::write(inner.join("file"), content).unwrap();
        fs::write(folder.path().join("lock"), "").unwrap();
        let targets = targets(folder.path()).unwrap();
        assert_eq!((targets.len(), targets[0].bytes), (1, 3));
        let mut dice = Dice(1);
        for number in 0..40 {
            let copy = folder.path().join("copy");
            renew(&inner, &copy).unwrap();
            let mut blow = Blow::choose(&targets, number, &mut dice).unwrap();
            assert_eq!(blow.path, Path::new("inner/file"));
            blow.path = PathBuf::from("file");
            blow.strike(&copy).unwrap();
            let after = fs::read(copy.join("file")).unwrap();
            if number.is_multiple_of(CUT_EVERY) {
                assert!(after.len() < 3, "{blow}");
            } else {
                let turned = |(one, other): (&u8, &u8)| (one ^ other).count_ones();
                let bits: u32 = content.iter().zip(&after).map(turned).sum();
                assert_eq!((after.len(), bits), (6, 1), "{blow}");
            }
            fs::remove_dir_all(&copy).unwrap();
        }
    }

    /// Goal: what is missing is a fault when nothing told of it, what is false always. Method: a blow of each ending.
    #[test]
    fn outcomes() {
        let blow = Blow {
            path: PathBuf::from("file"),
            at: 1,
            bit: None,
        };
        let lost = Verdict {
            lost: 1,
            ..Verdict::default()
        };
        let wrong = Verdict {
            wrong: 1,
            ..Verdict::default()
        };
        let told = Ending::Told("refused".to_owned());
        let of = |ending: &Ending, verdict: &Verdict| {
            let mut outcome = Outcome {
                whole: 1,
                told: BLOWS - 2,
                ..Outcome::default()
            };
            outcome.take(&blow, ending, verdict);
            outcome.holds()
        };
        assert!(of(&Ending::Whole, &Verdict::default()));
        assert!(of(&told, &Verdict::default()));
        assert!(!of(&Ending::Whole, &lost));
        assert!(!of(&told, &wrong));
        assert!(!of(&Ending::Hung, &Verdict::default()));
    }
}
