//! The worked examples of the protocol's text, rendered from the golden vectors.
//!
//! Bytes are walked by the text's own structures and hashed with `ring`, without this crate's codec:
//! an example that shows what the codec believes would prove nothing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ring::digest::{SHA256, digest};

use super::golden::read;

/// Where the examples stand.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol/11-worked-examples.md")
}

/// The whole text.
pub fn render() -> String {
    let mut text = String::from(INTRODUCTION);
    for part in [
        version_set(),
        manifest(),
        transaction(),
        receipt(),
        proof(),
        tombstone(),
        offer(),
        padding(),
    ] {
        text.push_str(&part);
    }
    text
}

const INTRODUCTION: &str = "\
# 11. Worked examples

Bytes of the [golden vectors](../../federation-proto/testdata/README.md), field by field, and what is computed from them. The left column is
the offset within the file, hexadecimal. This text is rendered from the vectors, and a test holds it to them:
`cargo run -p federation-proto --example write_golden` writes it anew.
";

/// Bytes shown of a long field of a document that stands there in whole too.
const SHOWN_MAX: usize = 32;
const ROW: usize = 16;

/// A file's bytes on the way through its fields.
struct Walk {
    bytes: Bytes,
    at: usize,
    /// Bytes shown of a field.
    shown_max: usize,
    text: String,
}

impl Walk {
    fn new(file: &str) -> Self {
        Self {
            bytes: read(file),
            at: 0,
            shown_max: usize::MAX,
            text: String::from("\n```\n"),
        }
    }

    /// The next `count` bytes are this.
    fn take(&mut self, count: usize, what: &str) -> Bytes {
        let field = self.bytes.slice(self.at..self.at + count);
        for (row, bytes) in field.chunks(ROW).enumerate() {
            if row * ROW >= self.shown_max {
                let _ = writeln!(self.text, "      … {} more bytes", count - row * ROW);
                break;
            }
            let what = if row == 0 { what } else { "" };
            let line = format!("{:04x}  {:<47}  {what}", self.at + row * ROW, hex(bytes));
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
        self.at += count;
        field
    }

    /// A number of `count` bytes.
    fn number(&mut self, count: usize, what: &str) -> u64 {
        let bytes = &self.bytes[self.at..self.at + count];
        let number = bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        self.take(count, &format!("{what} = {number}"));
        number
    }

    /// `opaque` with a length prefix of `prefix` bytes.
    fn opaque(&mut self, prefix: usize, what: &str) -> Bytes {
        let length = self.number(prefix, &format!("length of {what}"));
        self.take(usize::try_from(length).unwrap(), what)
    }

    fn note(&mut self, what: &str) {
        let _ = writeln!(self.text, "      -- {what}");
    }

    /// Everything was walked through.
    fn end(mut self) -> String {
        assert_eq!(self.at, self.bytes.len(), "the structure ends elsewhere");
        self.text.push_str("```\n");
        self.text
    }
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

fn dense(bytes: &[u8]) -> String {
    hex(bytes).replace(' ', "")
}

fn sha256(parts: &[&[u8]]) -> Bytes {
    Bytes::copy_from_slice(digest(&SHA256, &parts.concat()).as_ref())
}

fn computed(text: &mut String, what: &str, value: &[u8]) {
    let _ = writeln!(text, "- {what}:\n  `{}`", dense(value));
}

fn version_set() -> String {
    let mut walk = Walk::new("version-set.bin");
    let end = walk.number(4, "length of versions") / 2;
    for _ in 0..end {
        walk.number(2, "version");
    }
    format!(
        "\n## A VersionSet (`version-set.bin`, ENC-010)\n{}",
        walk.end()
    )
}

fn manifest() -> String {
    let mut walk = Walk::new("a-manifest.bin");
    walk.number(2, "format");
    walk.opaque(1, "server");
    walk.number(8, "serial");
    walk.number(8, "issued_ms");
    let issuing = walk.opaque(2, "issuing_certificate");
    let keys = walk.number(4, "length of envelope_keys") / 48;
    let mut public = Bytes::new();
    for _ in 0..keys {
        public = walk.take(32, "public");
        walk.number(8, "not_before_ms");
        walk.number(8, "not_after_ms");
    }
    let pins = walk.number(4, "length of tls_pins") / 32;
    for _ in 0..pins {
        walk.take(32, "pin");
    }
    let signed = walk.at;
    walk.opaque(1, "signature");
    let whole = walk.bytes.clone();
    let mut text = format!(
        "\n## A Manifest (`a-manifest.bin`, section 2)\n{}\n",
        walk.end()
    );
    let label = b"entente manifest";
    let input = [&[16], label.as_slice(), &whole[..signed]].concat();
    computed(
        &mut text,
        "id of the last envelope key, the first 8 bytes of SHA-256 of its `public` (ID-007)",
        &sha256(&[&public])[..8],
    );
    computed(
        &mut text,
        "SHA-256 of what is signed: `10`, `entente manifest`, and the bytes before `signature`'s length",
        &sha256(&[&input]),
    );
    assert_eq!(issuing, read("a-issuing.der"));
    text
}

/// One header; its bytes.
fn header(walk: &mut Walk) -> (Bytes, usize) {
    let start = walk.at;
    walk.number(2, "version");
    walk.number(1, "suite");
    walk.number(1, "kind");
    walk.opaque(1, "origin");
    walk.opaque(1, "destination");
    walk.take(8, "key_id");
    walk.number(8, "link_epoch");
    walk.take(16, "lane");
    walk.number(8, "sequence");
    walk.number(8, "created_ms");
    walk.number(8, "expires_ms");
    let payload = walk.number(4, "payload_length");
    walk.take(32, "payload_sha256");
    (
        walk.bytes.slice(start..walk.at),
        usize::try_from(payload).unwrap(),
    )
}

/// A header without its version and its key id (LINK-010).
fn hashed_for_position(header: &[u8]) -> Vec<u8> {
    let origin = 4;
    let destination = origin + 1 + usize::from(header[origin]);
    let key_id = destination + 1 + usize::from(header[destination]);
    [&header[2..key_id], &header[key_id + 8..]].concat()
}

fn transaction() -> String {
    let mut walk = Walk::new("transaction.bin");
    walk.number(2, "version");
    walk.number(1, "suite");
    walk.take(64, "signature");
    walk.number(4, "length of envelopes");
    let mut headers = Vec::new();
    while walk.at < walk.bytes.len() {
        walk.note(&format!("envelope {}", headers.len() + 1));
        let (header, payload) = header(&mut walk);
        walk.take(payload, "payload");
        headers.push(header);
    }
    let mut text = format!(
        "\n## A Transaction of three envelopes (`transaction.bin`, section 3)\n{}\n",
        walk.end()
    );
    let leaves: Vec<Bytes> = headers.iter().map(|h| sha256(&[&[0], h])).collect();
    for (number, leaf) in leaves.iter().enumerate() {
        let what = format!(
            "leaf {}: SHA-256 of `00` and the header's bytes",
            number + 1
        );
        computed(&mut text, &what, leaf);
    }
    let first_two = sha256(&[&[1], &leaves[0], &leaves[1]]);
    computed(
        &mut text,
        "node over leaves 1 and 2: SHA-256 of `01` and both",
        &first_two,
    );
    let root = sha256(&[&[1], &first_two, &leaves[2]]);
    computed(
        &mut text,
        "root: SHA-256 of `01`, that node and leaf 3",
        &root,
    );
    let (origin, destination) = (b"a.example", b"b.example");
    let epoch = &headers[0][4 + 10 + 10 + 8..][..8];
    let signed = [
        &[19],
        b"entente transaction".as_slice(),
        &[0, 1, 1, 9],
        origin,
        &[9],
        destination,
        epoch,
        &[0, 0, 0, 3],
        &root,
    ]
    .concat();
    computed(
        &mut text,
        "what is signed: the label and SignedRoot",
        &signed,
    );
    let position = sha256(&[&[2], &hashed_for_position(&headers[0])]);
    computed(
        &mut text,
        "position hash of envelope 1 (LINK-010): SHA-256 of `02` and its header without version and key id",
        &position,
    );
    let before = sha256(&[b"the chain up to position 40"]);
    let chain = sha256(&[&[3], &before, &position]);
    computed(
        &mut text,
        "chain hash after envelope 1 (LINK-011), whose sequence is 41, when the one before is SHA-256 of `the chain up to position 40`",
        &chain,
    );
    text
}

fn receipt() -> String {
    let mut walk = Walk::new("receipt.bin");
    walk.number(2, "version");
    walk.number(1, "suite");
    walk.opaque(1, "origin");
    walk.opaque(1, "destination");
    walk.take(8, "key_id");
    walk.number(8, "link_epoch");
    walk.take(32, "root");
    walk.number(8, "at_ms");
    let length = walk.number(4, "length of results");
    let end = walk.at + usize::try_from(length).unwrap();
    while walk.at < end {
        match walk.number(1, "type") {
            1 | 2 => {}
            3 => {
                walk.number(2, "code");
                walk.opaque(2, "reason");
            }
            _ => {
                walk.number(2, "code");
                walk.number(4, "retry_after_ms");
            }
        }
    }
    let lanes = walk.number(4, "length of lanes") / 56;
    for _ in 0..lanes {
        walk.take(16, "lane");
        walk.number(8, "sequence");
        walk.take(32, "chain_hash");
    }
    let signed = walk.at;
    walk.take(64, "signature");
    let whole = walk.bytes.clone();
    let mut text = format!(
        "\n## Its Receipt: accepted, refused, deferred (`receipt.bin`, section 4)\n{}\n",
        walk.end()
    );
    let input = [&[15], b"entente receipt".as_slice(), &whole[..signed]].concat();
    computed(
        &mut text,
        "the public key of `key_id`, b.example's: the signature is by it",
        &envelope_key("b-manifest.bin"),
    );
    computed(
        &mut text,
        "SHA-256 of what is signed: `0f`, `entente receipt`, and the bytes before `signature`",
        &sha256(&[&input]),
    );
    text
}

/// The envelope key in a manifest that lists one.
fn envelope_key(manifest: &str) -> Bytes {
    let mut walk = Walk::new(manifest);
    walk.number(2, "format");
    walk.opaque(1, "server");
    walk.take(16, "serial, issued_ms");
    walk.opaque(2, "issuing_certificate");
    assert_eq!(walk.number(4, "length of envelope_keys"), 48);
    walk.take(32, "public")
}

fn proof() -> String {
    let mut walk = Walk::new("proof.bin");
    walk.number(4, "tree_size");
    walk.number(4, "index");
    let length = walk.number(4, "length of path") / 32;
    let path: Vec<Bytes> = (0..length).map(|_| walk.take(32, "sibling")).collect();
    walk.take(64, "signature");
    let mut text = format!(
        "\n## An EnvelopeProof of the first envelope (`proof.bin`, section 3)\n{}\n",
        walk.end()
    );
    let mut proved = Walk::new("proved-envelope.bin");
    let (header, _) = header(&mut proved);
    let mut hash = sha256(&[&[0], &header]);
    computed(&mut text, "leaf: as that of envelope 1 above", &hash);
    // The first of three is on the left at every step.
    for sibling in &path {
        hash = sha256(&[&[1], &hash, sibling]);
        computed(
            &mut text,
            "SHA-256 of `01`, what was computed last, and the next sibling",
            &hash,
        );
    }
    text.push_str(
        "\nThe last one is the transaction's root, and the signature is the transaction's, over SignedRoot with it.\n",
    );
    text
}

fn tombstone() -> String {
    let mut transaction = Walk::new("transaction.bin");
    transaction.at = 2 + 1 + 64 + 4;
    let (first, _) = header(&mut transaction);
    let payload = read("payload-tombstone.bin");
    let mut made = first.to_vec();
    let numbers = made.len() - 32 - 4 - 3 * 8;
    made[3] = 8;
    made[numbers..numbers + 8].copy_from_slice(&43_u64.to_be_bytes());
    made[numbers + 16..numbers + 24].copy_from_slice(&[0; 8]);
    made[numbers + 24..numbers + 28].copy_from_slice(&6_u32.to_be_bytes());
    made[numbers + 28..].copy_from_slice(&sha256(&[&payload]));
    let mut walk = Walk {
        bytes: [made.as_slice(), &payload].concat().into(),
        at: 0,
        shown_max: usize::MAX,
        text: String::from("\n```\n"),
    };
    let (header, _) = header(&mut walk);
    walk.number(4, "count");
    walk.number(2, "code");
    let mut text = format!(
        "\n## A tombstone for positions 43 to 45 (`payload-tombstone.bin`, sections 3 and 4)\n\n\
         The next envelope of the room's lane; its header is made for this example.\n{}\n",
        walk.end()
    );
    let receipt = read("receipt.bin");
    let before = &receipt[receipt.len() - 64 - 32..][..32];
    let position = sha256(&[&[2], &hashed_for_position(&header)]);
    computed(&mut text, "its position hash", &position);
    computed(
        &mut text,
        "chain hash at position 45, one step after the one at 42 (in the receipt): SHA-256 of `03`, that and the position hash",
        &sha256(&[&[3], before, &position]),
    );
    text
}

fn offer() -> String {
    let mut walk = Walk::new("offer.bin");
    walk.shown_max = SHOWN_MAX;
    walk.number(2, "format");
    walk.opaque(1, "from");
    walk.opaque(1, "to");
    walk.number(8, "serial");
    walk.take(32, "previous");
    let versions = walk.number(4, "length of versions") / 2;
    for _ in 0..versions {
        walk.number(2, "version");
    }
    walk.opaque(2, "root");
    walk.opaque(2, "manifest");
    list(&mut walk, "endpoints", |walk| {
        walk.opaque(2, "endpoint");
    });
    for grants in ["outbound", "inbound"] {
        list(&mut walk, grants, |walk| {
            walk.number(1, "operation");
            list(walk, "user_types", |walk| {
                walk.opaque(1, "user type");
            });
        });
    }
    walk.number(4, "ttl_min_seconds");
    walk.number(4, "ttl_max_seconds");
    walk.number(8, "waiting_bytes_max");
    walk.number(8, "file_bytes_max");
    walk.number(1, "label_max");
    walk.opaque(2, "contact");
    walk.take(16, "nonce");
    walk.number(8, "made_ms");
    walk.number(8, "expires_ms");
    walk.number(8, "answer_by_ms");
    let signed = walk.at;
    walk.opaque(1, "signature");
    let whole = walk.bytes.clone();
    let armored = read("offer.txt");
    let mut text = format!("\n## An Offer (`offer.bin`, section 5)\n{}\n", walk.end());
    let input = [&[13], b"entente offer".as_slice(), &whole[..signed]].concat();
    computed(
        &mut text,
        "SHA-256 of what is signed: `0d`, `entente offer`, and the bytes before `signature`'s length",
        &sha256(&[&input]),
    );
    let _ = write!(
        text,
        "\nThe same, armored (`offer.txt`):\n\n```\n{}```\n",
        std::str::from_utf8(&armored).unwrap()
    );
    text
}

/// A vector of elements, each of which `element` walks.
fn list(walk: &mut Walk, what: &str, element: impl Fn(&mut Walk)) {
    let length = walk.number(4, &format!("length of {what}"));
    let end = walk.at + usize::try_from(length).unwrap();
    while walk.at < end {
        element(walk);
    }
    assert_eq!(walk.at, end, "{what} ends elsewhere");
}

fn padding() -> String {
    let content = read("version-set.bin");
    let zeros = 2048 - 4 - content.len();
    format!(
        "\n## A padded body (section 6)\n\nThe answer to a probe that is the VersionSet above:\n\n```\n{}  length = {}\n{}  content\n00 …         {zeros} zeros\n```\n",
        hex(&u32::try_from(content.len()).unwrap().to_be_bytes()),
        content.len(),
        hex(&content),
    )
}
