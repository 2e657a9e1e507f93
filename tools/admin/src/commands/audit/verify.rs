//! `audit verify`: an exported log held to what was signed of it, without a homeserver.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::Path;

use homeserver_api::Digest;
use homeserver_api::admin::{AuditEntry, AuditExport, AuditHead, AuditSighting};
use homeserver_api::device_log::Head;
use homeserver_api::ids::ServerName;
use homeserver_api::merkle::Frontier;
use serde::Serialize;

use crate::cli::{ConnectionArguments, VerifyArguments};
use crate::connection::root_from_file;
use crate::failure::Failure;
use crate::output::{Format, facts};
use crate::values::{harmless, instant, now_ms};

/// Longest line: an entry's texts, each of whose bytes may be written as six.
const LINE_BYTES_MAX: u64 = 512 * 1024;
/// Read at once.
const READ_BYTES: usize = 1024 * 1024;

/// What was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Verified {
    verified: bool,
    server: String,
    entries: u64,
    root: String,
    signed_ms: u64,
    /// Sizes of earlier heads from which it has grown.
    grown_from: Vec<u64>,
}

/// A head that its organisation has signed.
struct Signed {
    head: Head,
}

/// Whose heads count.
struct Signer<'a> {
    server: Option<&'a ServerName>,
    root: Vec<u8>,
}

/// `audit verify FILE`.
pub(super) fn run(
    connection: &ConnectionArguments,
    arguments: &VerifyArguments,
    format: Format,
) -> Result<(), Failure> {
    let root = connection.root.as_deref().ok_or_else(|| {
        Failure::Usage(
            "give the root certificate of the organisation whose log it is: --root FILE".to_owned(),
        )
    })?;
    let signer = |root: &Path| {
        Ok::<_, Failure>(Signer {
            server: connection.server_name.as_ref(),
            root: root_from_file(root)?,
        })
    };
    let now = signer(root)?;
    let then = match &arguments.earlier_root {
        Some(root) => signer(root)?,
        None => signer(root)?,
    };
    let name = arguments.file.display();
    let refused = |why: String| Failure::Other(format!("{name} does not hold: {why}"));
    let head = arguments.head.as_deref().map(|file| head_in(file, &now));
    let head = head.transpose()?;
    let mut earlier = Vec::new();
    for file in &arguments.earlier_head {
        earlier.push(head_in(file, &then)?);
    }
    let witnesses = arguments.witness_root.iter();
    let witnesses: Vec<_> = witnesses
        .map(|root| root_from_file(root))
        .collect::<Result<_, _>>()?;
    for file in &arguments.sighting {
        earlier.push(sighting_in(file, &witnesses)?);
    }
    let opened: Box<dyn Read> = if arguments.file == Path::new("-") {
        Box::new(stdin().lock())
    } else {
        let opened = File::open(&arguments.file);
        Box::new(opened.map_err(|error| unreadable(&arguments.file, &error))?)
    };
    let mut lines = Lines::of(opened);
    let found = verify(&mut lines, &now, head, &earlier).map_err(refused)?;
    format.show(&found, shown)
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::Configuration(format!("{} can't be read: {error}", file.display()))
}

/// Holds the log in these lines to its head, or to another one, and to earlier ones; the error says what is wrong.
fn verify(
    lines: &mut Lines,
    signer: &Signer<'_>,
    head: Option<Signed>,
    earlier: &[Signed],
) -> Result<Verified, String> {
    let first = lines.next()?.ok_or("it is empty")?;
    let export: AuditExport = serde_json::from_slice(first)
        .map_err(|_| "it does not begin with the head of an exported log".to_owned())?;
    if export.audit_export != AuditExport::VERSION {
        return Err(format!(
            "its form is {}, and this hsctl knows {}: is hsctl as new as the homeserver?",
            export.audit_export,
            AuditExport::VERSION
        ));
    }
    let Signed { head } = match head {
        Some(head) => head,
        None => signer.verify(&export.head)?,
    };
    let mut roots: BTreeMap<u64, Digest> = BTreeMap::new();
    for Signed { head: before } in earlier {
        if before.server != head.server {
            return Err(format!(
                "an earlier head is of {}, and the log of {}",
                before.server, head.server
            ));
        }
        if before.size > head.size {
            return Err(format!(
                "the log has gone back: it had {} entries, and now has {}",
                before.size, head.size
            ));
        }
        roots.insert(before.size, Digest::ZERO);
    }
    let tree = read_entries(lines, head.size, &mut roots)?;
    if tree.root() != head.root {
        return Err(
            "these are not the entries that the organisation has signed: something was changed, or is not in its place"
                .to_owned(),
        );
    }
    for Signed { head: before } in earlier {
        if roots.get(&before.size) != Some(&before.root) {
            return Err(format!(
                "the log has forked: its first {} entries are not those that the organisation had signed before",
                before.size
            ));
        }
    }
    Ok(Verified {
        verified: true,
        server: head.server.to_string(),
        entries: head.size,
        root: head.root.to_string(),
        signed_ms: head.at_ms,
        grown_from: earlier.iter().map(|signed| signed.head.size).collect(),
    })
}

/// The tree over exactly `size` entries; the roots of the sizes in `roots` are noted on the way.
fn read_entries(
    lines: &mut Lines,
    size: u64,
    roots: &mut BTreeMap<u64, Digest>,
) -> Result<Frontier, String> {
    let mut tree = Frontier::default();
    let mut written = Vec::new();
    while let Some(line) = lines.next()? {
        let number = tree.size().saturating_add(1);
        if number > size {
            return Err(format!("more follows than the {size} entries that it has"));
        }
        let entry: AuditEntry = serde_json::from_slice(line)
            .map_err(|error| format!("where entry {number} should be is none: {error}"))?;
        if entry.number != number {
            return Err(format!(
                "where entry {number} should be is entry {}",
                entry.number
            ));
        }
        // One way to write an entry: nothing can stand in its line that no hash covers.
        written.clear();
        let same = serde_json::to_writer(&mut written, &entry).is_ok() && written == line;
        if !same {
            return Err(format!("entry {number} is not written as it was exported"));
        }
        let leaf = entry
            .leaf()
            .map_err(|error| format!("entry {number}: {error}"))?;
        if entry.hash != leaf.to_string() {
            return Err(format!("entry {number} is not what its hash is of"));
        }
        tree.push(leaf);
        if let Some(root) = roots.get_mut(&number) {
            *root = tree.root();
        }
    }
    if tree.size() == size {
        Ok(tree)
    } else {
        Err(format!(
            "it ends with entry {}, and there are {size}",
            tree.size()
        ))
    }
}

impl Signer<'_> {
    fn verify(&self, shown: &AuditHead) -> Result<Signed, String> {
        let signed = shown.signed().map_err(|error| error.to_string())?;
        let claims = signed.claims();
        let server = self.server.unwrap_or(&claims.server);
        let root = self.root.clone().into();
        let head = signed
            .verify(server, &root, &[], now_ms())
            .map_err(|error| harmless(&error.to_string()))?;
        let shows = (shown.size, shown.root.as_str(), shown.at_ms);
        if (head.size, head.root.to_string().as_str(), head.at_ms) != shows
            || head.server != shown.server
        {
            return Err("its head shows something else than what was signed".to_owned());
        }
        Ok(Signed { head: head.clone() })
    }
}

/// The head that a file begins with: one that was kept, or an export's.
fn head_in(file: &Path, signer: &Signer<'_>) -> Result<Signed, Failure> {
    let opened = File::open(file).map_err(|error| unreadable(file, &error))?;
    let mut lines = Lines::of(Box::new(opened));
    let refused = |why: String| {
        Failure::Other(format!(
            "the head in {} does not hold: {why}",
            file.display()
        ))
    };
    let first = lines.next().map_err(refused)?;
    let first = first.ok_or_else(|| refused("the file is empty".to_owned()))?;
    let head = serde_json::from_slice(first)
        .or_else(|_| serde_json::from_slice(first).map(|export: AuditExport| export.head))
        .map_err(|_| refused("there is none in the file's first line".to_owned()))?;
    signer.verify(&head).map_err(refused)
}

/// What a witness has seen, as the head that it has seen.
fn sighting_in(file: &Path, roots: &[Vec<u8>]) -> Result<Signed, Failure> {
    let refused = |why: String| {
        Failure::Other(format!(
            "the sighting in {} does not hold: {why}",
            file.display()
        ))
    };
    let opened = File::open(file).map_err(|error| unreadable(file, &error))?;
    let mut lines = Lines::of(Box::new(opened));
    let first = lines.next().map_err(refused)?;
    let first = first.ok_or_else(|| refused("the file is empty".to_owned()))?;
    let shown: AuditSighting = serde_json::from_slice(first)
        .map_err(|_| refused("there is none in the file's first line".to_owned()))?;
    let signed = shown.signed().map_err(|error| refused(error.to_string()))?;
    let witness = &signed.claims().witness;
    let mut why = "no root certificate of a witness was given".to_owned();
    for root in roots {
        match signed.verify(witness, &root.clone().into(), &[], now_ms()) {
            Ok(seen) => {
                return Ok(Signed {
                    head: Head {
                        server: seen.server.clone(),
                        size: seen.size,
                        root: seen.root,
                        at_ms: seen.seen_ms,
                    },
                });
            }
            Err(error) => why = harmless(&error.to_string()),
        }
    }
    Err(refused(why))
}

/// The lines of a file, of bounded length.
struct Lines {
    reader: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
}

impl Lines {
    fn of(file: Box<dyn Read>) -> Self {
        Self {
            reader: BufReader::with_capacity(READ_BYTES, file),
            line: Vec::new(),
        }
    }

    /// The next line without its end; `None` behind the last one.
    fn next(&mut self) -> Result<Option<&[u8]>, String> {
        self.line.clear();
        let mut bounded = (&mut self.reader).take(LINE_BYTES_MAX);
        let read = bounded.read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| format!("it can't be read: {error}"))?;
        if read == 0 {
            return Ok(None);
        }
        match self.line.strip_suffix(b"\n") {
            Some(line) => Ok(Some(line)),
            None => Err("it ends, or goes on too long, within a line".to_owned()),
        }
    }
}

fn shown(found: &Verified) -> String {
    let mut rows = vec![
        ("log", format!("of {}: it holds", found.server)),
        ("entries", found.entries.to_string()),
        ("root", found.root.clone()),
        ("signed", instant(found.signed_ms)),
    ];
    for size in &found.grown_from {
        rows.push((
            "grown from",
            format!("{size} entries that were signed before"),
        ));
    }
    facts(rows)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use homeserver_api::Base64;
    use homeserver_api::IssuingKey;
    use homeserver_api::audit_log::SignedAuditHead;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
    use ring::rand::SystemRandom;

    use super::*;

    struct Organisation {
        root: Vec<u8>,
        issuing: Vec<u8>,
        key: IssuingKey,
    }

    impl Organisation {
        fn new() -> Self {
            let authority = |name: &str, depth| {
                let mut params = CertificateParams::default();
                params
                    .distinguished_name
                    .push(rcgen::DnType::CommonName, name);
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
                params
            };
            let pair = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
            let (root_key, issuing_key) = (pair(), pair());
            let params = authority("root", 1);
            let root = params.self_signed(&root_key).expect("a root");
            let issuer = Issuer::from_params(&params, &root_key);
            let issuing = authority("issuing", 0)
                .signed_by(&issuing_key, &issuer)
                .expect("an issuing CA");
            let key = issuing_key.serialize_der();
            Self {
                root: root.der().to_vec(),
                issuing: issuing.der().to_vec(),
                key: IssuingKey::from_pkcs8(&key, &SystemRandom::new()).expect("a key"),
            }
        }

        fn head(&self, entries: &[AuditEntry]) -> AuditHead {
            let mut tree = Frontier::default();
            for entry in entries {
                tree.push(entry.leaf().expect("a leaf"));
            }
            self.head_of(&tree)
        }

        fn head_of(&self, tree: &Frontier) -> AuditHead {
            let head = Head {
                server: "a.example".parse().expect("a name"),
                size: tree.size(),
                root: tree.root(),
                at_ms: now_ms(),
            };
            let issuing = self.issuing.clone().into();
            let signed = SignedAuditHead::sign(head, issuing, &self.key, &SystemRandom::new());
            AuditHead::of(&signed.expect("a head")).expect("a head")
        }

        fn judge(&self, text: &str, earlier: &[&AuditHead]) -> Result<u64, String> {
            let signer = Signer {
                server: None,
                root: self.root.clone(),
            };
            let heads: Result<Vec<_>, _> = earlier.iter().map(|head| signer.verify(head)).collect();
            let mut lines = Lines::of(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())));
            verify(&mut lines, &signer, None, &heads?).map(|found| found.entries)
        }
    }

    fn entry(number: u64, detail: &str) -> AuditEntry {
        let mut entry = AuditEntry {
            number,
            at_ms: 7,
            actor: "system".to_owned(),
            action: "test.happened".to_owned(),
            subject: "subject".to_owned(),
            detail: detail.to_owned(),
            hash: String::new(),
        };
        entry.hash = entry.leaf().expect("a leaf").to_string();
        entry
    }

    fn exported(head: &AuditHead, entries: &[AuditEntry]) -> String {
        let export = AuditExport {
            audit_export: 1,
            head: head.clone(),
        };
        let mut text = to_line(&export);
        text.extend(entries.iter().map(to_line));
        text
    }

    fn to_line<T: Serialize>(value: &T) -> String {
        serde_json::to_string(value).expect("JSON") + "\n"
    }

    /// Goal: a million entries are verified within a minute. Method: ten thousand, unless `ENTENTE_AUDIT_ENTRIES` says how
    /// many, as `cargo xtask trial managed` does in a build that is optimised.
    #[test]
    fn verifying_is_quick() {
        let count: u64 = match std::env::var("ENTENTE_AUDIT_ENTRIES") {
            Ok(count) => count.parse().expect("a number"),
            Err(_) => 10_000,
        };
        let ours = Organisation::new();
        let written = |number| {
            entry(
                number,
                "as a refusal would be told, in some words and with a code",
            )
        };
        let mut tree = Frontier::default();
        for number in 1..=count {
            tree.push(written(number).leaf().expect("a leaf"));
        }
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let mut writer = std::io::BufWriter::new(&mut file);
        writer
            .write_all(exported(&ours.head_of(&tree), &[]).as_bytes())
            .expect("written");
        for number in 1..=count {
            let line = to_line(&written(number));
            writer.write_all(line.as_bytes()).expect("written");
        }
        writer.flush().expect("written");
        drop(writer);
        let signer = Signer {
            server: None,
            root: ours.root.clone(),
        };
        let started = std::time::Instant::now();
        let mut lines = Lines::of(Box::new(File::open(file.path()).expect("a file")));
        let found = verify(&mut lines, &signer, None, &[]).expect("it holds");
        let elapsed = started.elapsed();
        println!("milliseconds: {}", elapsed.as_millis());
        assert_eq!(found.entries, count);
        assert!(elapsed.as_secs() < 60, "{elapsed:?}");
    }

    /// Goal: a log holds as it was signed and grown from what was signed before; not with an entry changed, left out, added,
    /// or in another's place, in part, with another head, under another root, nor when it has forked or gone back since
    /// an earlier head. Method: each of these done to one log, with the hashes of its entries made to fit.
    #[test]
    fn logs_are_judged() {
        let (ours, others) = (Organisation::new(), Organisation::new());
        let entries: Vec<_> = (1..=9).map(|number| entry(number, "as it was")).collect();
        let head = ours.head(&entries);
        let good = exported(&head, &entries);
        let before = ours.head(&entries[..5]);
        let nothing = ours.head(&[]);
        assert_eq!(ours.judge(&good, &[]), Ok(9));
        assert_eq!(ours.judge(&good, &[&nothing, &before, &head]), Ok(9));
        assert_eq!(ours.judge(&exported(&nothing, &[]), &[]), Ok(0));

        let changed = |at: usize, with: AuditEntry| {
            let mut entries = entries.clone();
            entries[at] = with;
            exported(&head, &entries)
        };
        let renumbered = |entries: &[&AuditEntry]| -> Vec<AuditEntry> {
            let numbered = (1..).zip(entries);
            numbered
                .map(|(number, was)| entry(number, &was.detail))
                .collect()
        };
        let mut wrong_hash = entries[3].clone();
        wrong_hash.detail = "nothing".to_owned();
        let dropped: Vec<_> = entries.iter().filter(|entry| entry.number != 4).collect();
        let cut = good.len() - 5;
        let mut stolen = head.clone();
        stolen.signed = Base64(others.head(&entries).signed.0);
        let mut said_otherwise = head.clone();
        said_otherwise.size = 8;
        for (what, text) in [
            ("changed", changed(3, wrong_hash)),
            ("changed, and its hash", changed(3, entry(4, "nothing"))),
            ("in another's place", changed(3, entries[4].clone())),
            ("left out", exported(&head, &renumbered(&dropped))),
            ("the last left out", exported(&head, &entries[..8])),
            (
                "one more",
                exported(&head, &[&entries[..], &[entry(10, "")]].concat()),
            ),
            ("cut", good[..cut].to_owned()),
            (
                "with a word more",
                good.replacen("\"number\":4", "\"more\":1,\"number\":4", 1),
            ),
            ("without a head", to_line(&entries[0])),
            ("signed by others", exported(&stolen, &entries)),
            ("head shown otherwise", exported(&said_otherwise, &entries)),
            ("empty", String::new()),
        ] {
            assert!(ours.judge(&text, &[]).is_err(), "{what}");
        }
        assert!(others.judge(&good, &[]).is_err());

        let mut fork = entries.clone();
        fork[2] = entry(3, "nothing");
        let forked = exported(&ours.head(&fork), &fork);
        assert_eq!(ours.judge(&forked, &[]), Ok(9), "signed by itself");
        let error = ours.judge(&forked, &[&before]).expect_err("a fork");
        assert!(error.contains("forked"), "{error}");
        let back = exported(&before, &entries[..5]);
        let error = ours.judge(&back, &[&head]).expect_err("gone back");
        assert!(error.contains("gone back"), "{error}");
    }
}
