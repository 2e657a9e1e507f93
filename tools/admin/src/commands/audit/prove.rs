//! `audit head`, `proof` and `growth`: what the homeserver shows of its log. Proofs are checked before they are printed: one
//! that does not lead to the head is none.

use homeserver_api::Digest;
use homeserver_api::admin::{AuditGrowth, AuditHead, AuditProof};
use homeserver_api::merkle::root_from_path;

use super::PATH;
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, facts};
use crate::values::{harmless, instant};

/// `GET /admin/v1/audit/head`.
pub(super) async fn head(admin: &Admin, format: Format) -> Result<(), Failure> {
    let head: AuditHead = admin.get(&format!("{PATH}/head")).await?;
    format.show(&head, |head| facts(rows(head)))
}

/// `GET /admin/v1/audit/entries/{number}`.
pub(super) async fn entry(
    admin: &Admin,
    number: u64,
    size: Option<u64>,
    format: Format,
) -> Result<(), Failure> {
    let of = size.map_or_else(String::new, |size| format!("?size={size}"));
    let proof: AuditProof = admin.get(&format!("{PATH}/entries/{number}{of}")).await?;
    let root = root_of(&proof).ok_or_else(|| wrong("the path leads nowhere"))?;
    let is_of_head = proof.size == proof.head.size;
    if proof.entry.number != number || is_of_head && root.to_string() != proof.head.root {
        return Err(wrong("the path does not lead to the head"));
    }
    format.show(&proof, |proof| {
        let entry = &proof.entry;
        let mut shown = vec![
            ("entry", entry.number.to_string()),
            ("when", instant(entry.at_ms)),
            ("who", harmless(&entry.actor)),
            ("what", harmless(&entry.action)),
            ("on what", harmless(&entry.subject)),
            ("more", harmless(&entry.detail)),
            ("hash", harmless(&entry.hash)),
        ];
        if is_of_head {
            shown.extend(rows(&proof.head));
        } else {
            shown.push(("in the log of", format!("{} entries", proof.size)));
            shown.push(("its root then", root.to_string()));
        }
        shown.extend(proof.path.iter().map(|hash| ("path", harmless(hash))));
        facts(shown)
    })
}

/// `GET /admin/v1/audit/growth/{from}`.
pub(super) async fn growth(admin: &Admin, from: u64, format: Format) -> Result<(), Failure> {
    let growth: AuditGrowth = admin.get(&format!("{PATH}/growth/{from}")).await?;
    if digests(&growth.path).is_none() || growth.from != from {
        return Err(wrong("the proof is not one of hashes"));
    }
    format.show(&growth, |growth| {
        let mut shown = vec![("from", format!("{} entries", growth.from))];
        shown.extend(rows(&growth.head));
        shown.extend(growth.path.iter().map(|hash| ("path", harmless(hash))));
        facts(shown)
    })
}

fn rows(head: &AuditHead) -> Vec<(&'static str, String)> {
    vec![
        ("server", head.server.to_string()),
        ("entries", head.size.to_string()),
        ("root", harmless(&head.root)),
        ("signed", instant(head.at_ms)),
    ]
}

/// The root to which the entry's own content and the path lead.
fn root_of(proof: &AuditProof) -> Option<Digest> {
    let leaf = proof.entry.leaf().ok()?;
    let index = proof.entry.number.checked_sub(1)?;
    root_from_path(leaf, index, proof.size, &digests(&proof.path)?)
}

/// Hashes that were written in hexadecimal digits.
fn digests(path: &[String]) -> Option<Vec<Digest>> {
    path.iter().map(String::as_str).map(digest).collect()
}

/// One of them.
fn digest(text: &str) -> Option<Digest> {
    let digits = text.as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    let digest = Digest::from_bytes(bytes);
    // One way to write it: not in capitals, nor with signs.
    (digest.to_string() == text).then_some(digest)
}

fn wrong(what: &str) -> Failure {
    Failure::Other(format!(
        "what the homeserver shows does not hold: {what}. Export the log and verify it; suspect the homeserver's store"
    ))
}
