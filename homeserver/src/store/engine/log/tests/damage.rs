//! Torn tails, holes and recycled segments at every byte, of the log alone.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::*;

const LOG: LogId = *b"the id of a log.";

/// A log without an index.
struct Bare {
    folder: tempfile::TempDir,
    pool: Pool,
    writer: Writer,
}

impl Bare {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = make(&folder.path().join(FOLDER), LOG, few().segment_bytes, 0).unwrap();
        Self {
            pool: made.pool,
            writer: writer(folder.path(), made.current, 0),
            folder,
        }
    }

    /// Appends the batches up to `last`.
    fn append_to(&mut self, last: u64) {
        for sequence in self.writer.sequence + 1..=last {
            let mut record = record::batch(sequence, &batch(sequence)).unwrap();
            let now = Instant::now();
            self.writer
                .append(&self.pool, sequence, &mut record, now)
                .unwrap();
        }
    }

    fn log_folder(&self) -> PathBuf {
        self.folder.path().join(FOLDER)
    }
}

fn writer(folder: &Path, current: Segment, sequence: u64) -> Writer {
    Writer {
        current,
        current_since: Instant::now(),
        asked: false,
        sequence,
        note: Note::open(folder).unwrap().0,
        remembered: Remembered::default(),
        failed: false,
    }
}

/// What the `sequence`th batch changes: like no other.
fn batch(sequence: u64) -> Vec<Change> {
    let value = Value::from(format!("the value of batch {sequence}"));
    vec![(key(&format!("key {sequence}")), Some(value))]
}

/// Another batch of that number, and of another length: one that the power cuts off.
fn cut_off(sequence: u64) -> Vec<Change> {
    let value = Value::from(format!(
        "nobody was answered batch {sequence} {}",
        "x".repeat(70)
    ));
    vec![(key(&format!("key {sequence}")), Some(value))]
}

/// The last batch that recovery finds, having checked that those behind `drained` are as they were
/// written and in order.
fn recovered(folder: &Path, segment: u64, drained: u64) -> Result<(Recovered, u64), StoreError> {
    let mut next = drained + 1;
    let place = Place { log: LOG, segment };
    let found = recover(
        folder,
        few().segment_bytes,
        place,
        drained,
        &mut |replayed| {
            assert_eq!(replayed.sequence, next);
            assert!([batch(next), cut_off(next)].contains(&replayed.changes));
            next += 1;
        },
    )?;
    assert_eq!(found.sequence, next - 1);
    Ok((found, next - 1))
}

/// The same, after which the log is written to, and is whole again.
fn goes_on(folder: &Path, segment: u64, drained: u64) -> u64 {
    let (found, last) = recovered(folder, segment, drained).unwrap();
    let beside = tempfile::tempdir().unwrap();
    let mut bare = Bare {
        pool: found.pool,
        writer: writer(beside.path(), found.current, last),
        folder: beside,
    };
    // Enough to need another segment too.
    bare.append_to(last + 4);
    assert_eq!(recovered(folder, segment, drained).unwrap().1, last + 4);
    last
}

/// The bytes of a segment that mean anything.
fn meaningful(bytes: &[u8]) -> impl Iterator<Item = usize> {
    (0..record::HEADER_BYTES).chain(record::RECORDS_AT..bytes.len())
}

type Damage = fn(&mut Vec<u8>, usize);
/// What the file, the byte and the way come to: the last batch that is recovered.
type Judge<'a> = &'a dyn Fn(&Path, usize, &str, Result<u64, StoreError>);
/// A log, what of it the index holds, and the segment from which it is read.
type Make = fn() -> (Bare, u64, u64);
const FLIP: Damage = |bytes, at| bytes[at] ^= 0xff;
const CUT: Damage = |bytes, at| bytes.truncate(at);
const ZERO: Damage = |bytes, at| bytes[at..].fill(0);

/// Damages each file of the log at each byte, each way, and hands the outcome to `judge` with the file,
/// the byte and the way. The files are as they were afterwards.
fn damage_everywhere(folder: &Path, segment: u64, drained: u64, judge: Judge<'_>) {
    let whole = files(folder);
    for (path, bytes) in &whole {
        for at in meaningful(bytes) {
            for (way, damage) in [("flip", FLIP), ("cut", CUT), ("zero", ZERO)] {
                let mut damaged = bytes.clone();
                damage(&mut damaged, at);
                let changes = &damaged != bytes;
                std::fs::write(path, damaged).unwrap();
                let outcome = recovered(folder, segment, drained).map(|(_, last)| last);
                if changes {
                    judge(path, at, way, outcome);
                } else {
                    outcome.unwrap();
                }
                // Recovery writes: all goes back to how it was.
                for (path, bytes) in &whole {
                    std::fs::write(path, bytes).unwrap();
                }
            }
        }
    }
}

/// Goal: whatever one byte of a log is changed, cut or zeroed from, no wrong value comes back, and what
/// was answered is there or opening is refused. Method: every byte of every file of a log of several
/// segments; what the note of the last batch has to catch is told apart from what the log notices.
#[test]
fn damage_is_noticed_at_every_byte() {
    let mut bare = Bare::make();
    bare.append_to(10);
    let folder = bare.log_folder();
    let whole = files(&folder);
    assert!(whole.len() >= 3, "{} segments", whole.len());
    let (last_path, _) = whole.last().unwrap();
    let number = bare.writer.current.number();
    assert_eq!(recovered(&folder, 1, 0).unwrap().1, 10);
    damage_everywhere(&folder, 1, 0, &|path, at, way, outcome| match outcome {
        // Opening compares with the note, which says 10: here all but the whole log is refused.
        Ok(last) if last < 10 => {
            // Only of the last segment may the end look torn, and of its records by a flip the last.
            assert_eq!(path, last_path, "{way} at {at} of segment {number}");
            assert!(way != "flip" || last == 9, "{way} at {at}: {last}");
        }
        Ok(last) => assert_eq!(last, 10),
        Err(error) => assert!(matches!(error, StoreError::Log(_)), "{error}"),
    });
}

/// Goal: the same for a log whose index has taken most of it, and whose files were all in use before:
/// nothing of a former life comes back. Method: as above, after the files went round twice.
#[test]
fn recycled_segments_keep_nothing_of_their_former_life() {
    let (bare, drained, segment) = recycled();
    let folder = bare.log_folder();
    let last = bare.writer.sequence;
    assert_eq!(recovered(&folder, segment, drained).unwrap().1, last);
    damage_everywhere(
        &folder,
        segment,
        drained,
        &|_, at, way, outcome| match outcome {
            Ok(found) => {
                assert!((drained..=last).contains(&found), "{way} at {at}");
                assert!(way != "flip" || found + 1 >= last, "{way} at {at}: {found}");
            }
            Err(error) => assert!(
                matches!(error, StoreError::Log(_) | StoreError::Behind { .. }),
                "{error}"
            ),
        },
    );
}

/// A log of which the files were in use before, with the index's last batch and the segment of it.
fn recycled() -> (Bare, u64, u64) {
    let mut bare = Bare::make();
    let (mut drained, mut segment) = (0, 1);
    for round in 1..=6 {
        bare.append_to(round * 4);
        (drained, segment) = (bare.writer.sequence, bare.writer.current.number());
        bare.pool.free_below(segment);
    }
    bare.append_to(drained + 3);
    let files = files(&bare.log_folder());
    assert!(files.len() <= 4, "files are used again: {}", files.len());
    assert!(segment > 6);
    (bare, drained, segment)
}

fn fresh() -> (Bare, u64, u64) {
    let mut bare = Bare::make();
    bare.append_to(1);
    (bare, 0, 1)
}

/// Goal: a full segment keeps nothing of a former life, not even behind its last record. Method: what
/// follows the end in a recycled one.
#[test]
fn a_full_segment_is_wiped_to_its_end() {
    let (bare, _, segment) = recycled();
    let full: Vec<Vec<u8>> = files(&bare.log_folder())
        .into_iter()
        .map(|(_, bytes)| bytes)
        .filter(|bytes| {
            let header = record::Header::read(bytes).unwrap();
            header.is_some_and(|header| header.segment == segment)
        })
        .collect();
    assert_eq!(full.len(), 1);
    let end = record::RECORDS_AT + 3 * 64 + record::END_BYTES;
    assert!(end < full[0].len());
    assert!(full[0][end..].iter().all(|byte| *byte == 0));
    assert!(full[0][..end].iter().any(|byte| *byte != 0));
}

/// Goal: a batch that the power cut off, at any byte, is no obstacle: all before it is there, and the log
/// goes on. Method: the new bytes up to each byte, and from each byte on, and what the file had before
/// elsewhere, of a former life too.
#[test]
fn a_torn_tail_is_no_obstacle_at_any_byte() {
    let logs: [Make; 2] = [fresh, recycled];
    for make in logs {
        let (mut bare, drained, segment) = make();
        let folder = bare.log_folder();
        // In the same segment, and then with the end of one and the header of another.
        for _ in 0..3 {
            let answered = bare.writer.sequence;
            let before = contents(&folder);
            let mut record = record::batch(answered + 1, &cut_off(answered + 1)).unwrap();
            let now = Instant::now();
            bare.writer
                .append(&bare.pool, answered + 1, &mut record, now)
                .unwrap();
            let after = contents(&folder);
            let torn = Torn::between(before, &after);
            assert!(torn.steps.len() == 1 || torn.steps.len() == 3);
            torn.at_every_byte(&after, &|torn| {
                let last = goes_on(torn, segment, drained);
                assert!(last == answered || last == answered + 1);
            });
        }
    }
}

/// What is in the files of a folder, by their names.
fn contents(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let named = |(path, bytes): (PathBuf, Vec<u8>)| (path.file_name().unwrap().to_owned(), bytes);
    files(folder).into_iter().map(named).collect()
}

/// How one state of a log came from another.
struct Torn {
    before: BTreeMap<OsString, Vec<u8>>,
    /// Which bytes of which file were written, in the order that they were synced in: a new segment's
    /// header, the end of the former one, the record.
    steps: Vec<(OsString, std::ops::Range<usize>)>,
}

impl Torn {
    fn between(
        mut before: BTreeMap<OsString, Vec<u8>>,
        after: &BTreeMap<OsString, Vec<u8>>,
    ) -> Self {
        let (mut headers, mut records) = (Vec::new(), Vec::new());
        for (name, new) in after {
            // A new file is made of zeros before anything is written to it.
            let old = before
                .entry(name.clone())
                .or_insert_with(|| vec![0; new.len()]);
            let (header, rest) = (0..record::HEADER_BYTES, record::RECORDS_AT..new.len());
            if old[rest.clone()] != new[rest.clone()] {
                records.push((
                    old[header.clone()] != new[header.clone()],
                    name.clone(),
                    rest,
                ));
            }
            if old[header.clone()] != new[header.clone()] {
                headers.push((name.clone(), header));
            }
        }
        // Where the header is new the record lies, elsewhere the end that came before it.
        records.sort_by_key(|(new_header, ..)| *new_header);
        headers.extend(records.into_iter().map(|(_, name, range)| (name, range)));
        Self {
            before,
            steps: headers,
        }
    }

    fn at_every_byte(mut self, after: &BTreeMap<OsString, Vec<u8>>, judge: &dyn Fn(&Path)) {
        for (name, range) in &self.steps {
            let new = &after[name];
            let old = self.before[name].clone();
            for at in range.clone().filter(|at| old[*at] != new[*at]) {
                for written in [range.start..at, at..range.end] {
                    let mut torn = old.clone();
                    torn[written.clone()].copy_from_slice(&new[written]);
                    self.before.insert(name.clone(), torn);
                    let folder = tempfile::tempdir().unwrap();
                    for (name, bytes) in &self.before {
                        std::fs::write(folder.path().join(name), bytes).unwrap();
                    }
                    judge(folder.path());
                }
            }
            let mut whole = old;
            whole[range.clone()].copy_from_slice(&new[range.clone()]);
            self.before.insert(name.clone(), whole);
        }
    }
}

/// Goal: a segment that is missing in the middle, or at the end, is a hole. Method: one is deleted, one
/// is exchanged for a copy of another, one is emptied.
#[test]
fn a_missing_segment_is_a_hole() {
    let mut bare = Bare::make();
    bare.append_to(12);
    let folder = bare.log_folder();
    let whole = files(&folder);
    for (path, bytes) in &whole {
        for wrong in [None, Some(Vec::new()), Some(vec![0; bytes.len()])] {
            match wrong {
                None => std::fs::remove_file(path).unwrap(),
                Some(wrong) => std::fs::write(path, wrong).unwrap(),
            }
            let refused = recovered(&folder, 1, 0).err();
            assert!(matches!(refused, Some(StoreError::Log(_))), "{refused:?}");
            std::fs::write(path, bytes).unwrap();
        }
    }
    std::fs::write(&whole[1].0, &whole[0].1).unwrap();
    assert!(matches!(
        recovered(&folder, 1, 0).err(),
        Some(StoreError::Log(_))
    ));
}

/// Goal: a log that ends before what the index holds is refused, as is one that begins behind it.
/// Method: an index that claims more, and one that claims less than is left.
#[test]
fn log_and_index_have_to_meet() {
    let (bare, drained, segment) = recycled();
    let folder = bare.log_folder();
    let refused = recovered(&folder, segment, drained + 9).err();
    assert!(
        matches!(refused, Some(StoreError::Behind { .. })),
        "{refused:?}"
    );
    let refused = recovered(&folder, segment, drained - 4).err();
    assert!(matches!(refused, Some(StoreError::Log(_))), "{refused:?}");
    let refused = recovered(&folder, segment - 2, drained - 4).err();
    assert!(matches!(refused, Some(StoreError::Log(_))), "{refused:?}");
}

/// Goal: a batch larger than a segment gets one of its own, which is an ordinary one again later.
/// Method: one of ten segments' length, between small ones; it is freed and overwritten.
#[test]
fn a_large_batch_has_a_segment_of_its_own() {
    let mut bare = Bare::make();
    bare.append_to(2);
    let large: Vec<Change> = vec![(key("large"), Some(vec![7; 10 * few().segment_bytes].into()))];
    let mut record = record::batch(3, &large).unwrap();
    bare.writer
        .append(&bare.pool, 3, &mut record, Instant::now())
        .unwrap();
    let mut record = record::batch(4, &batch(4)).unwrap();
    bare.writer
        .append(&bare.pool, 4, &mut record, Instant::now())
        .unwrap();
    let mut found = Vec::new();
    let place = Place {
        log: LOG,
        segment: 1,
    };
    let folder = bare.log_folder();
    recover(&folder, few().segment_bytes, place, 0, &mut |replayed| {
        found.push(replayed.changes);
    })
    .unwrap();
    assert_eq!(found, [batch(1), batch(2), large, batch(4)]);
    bare.writer
        .go_on(&bare.pool, 0, false, Instant::now())
        .unwrap();
    bare.pool.free_below(bare.writer.current.number());
    bare.pool.overwrite_free().unwrap();
    for (path, bytes) in files(&folder) {
        assert_eq!(bytes.len(), few().segment_bytes, "{}", path.display());
        assert!(!bytes.windows(8).any(|some| some == [7; 8]));
    }
}
