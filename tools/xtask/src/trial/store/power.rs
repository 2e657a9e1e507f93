//! The power is cut under load: what no sync has made durable is gone.

use std::thread;
use std::time::Duration;

use super::disk::Disk;
use super::ledger::Ledger;
use super::process::{Load, Writer};
use super::{Case, FAULT, Series, judged};
use crate::failure::Result;
use crate::trial::checks::Check;

const CUTS: u32 = 10;
const CONTROL_CUTS: u32 = 3;
/// Messages that stay in each inbox.
const WAITING: u32 = 100;
/// Of the disk; what is not used takes no space.
const DISK_MEBIBYTES: u64 = 4096;
/// Long enough that what is young in the commit log goes to the index.
const LONG_LIFE: Duration = Duration::from_secs(7);
/// How long the writer goes on without a disk: it could be answered meanwhile, and must not.
const IN_THE_DARK: Duration = Duration::from_millis(50);

pub(super) fn check(case: &Case<'_>) -> Result<Check> {
    let (got, ok) = judged(cuts(case, None, CUTS), Series::holds)?;
    Ok(Check {
        id: case.id,
        must: format!(
            "the power of its disk (ext4) cut {CUTS} times under load: lost, duplicated, wrong bytes, resurrected, half \
             written, holes and out of turn 0"
        ),
        got,
        ok: Some(ok),
        control: case.control(|| cuts(case, Some(FAULT), CONTROL_CUTS))?,
    })
}

/// Cuts the power so many times, or as often as nothing is wrong afterwards.
fn cuts(case: &Case<'_>, fault: Option<&'static str>, count: u32) -> Result<Series> {
    let logs = case.folder(fault.unwrap_or("whole"))?;
    let mut disk = Disk::make(&logs, DISK_MEBIBYTES)?;
    let place = case.place(&logs, disk.at().join("store"), fault);
    let load = Load {
        waiting: Some(WAITING),
        pause: case.engine.pause(),
        seconds: None,
    };
    let mut ledger = Ledger::default();
    let mut series = Series::of("power cuts");
    for life in 1..=count {
        let mut writer = Writer::start(&place, load, ledger)?;
        writer.wait_answered(1)?;
        thread::sleep(lasts(life));
        disk.cut()?;
        thread::sleep(IN_THE_DARK);
        ledger = writer.kill()?;
        disk.mend()?;
        if !series.take(&mut ledger, place.show()?)? {
            break;
        }
    }
    Ok(series)
}

/// How long the life of this number lasts from its first answer on.
fn lasts(life: u32) -> Duration {
    match life % 4 {
        0 => LONG_LIFE,
        _ => Duration::from_millis(u64::from(life).saturating_mul(7_919) % 900),
    }
}
