//! What a transaction must be: signed by the peer, from the peer, for this server, and nothing besides.

use super::{Case, Sent, TOMBSTONE, World};
use crate::failure::Result;
use crate::padding::pad;
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::transaction::{Envelope, RECEIPT_LABEL, TRANSACTION_LABEL, sign};
use crate::wire::Encoder;

/// Larger than any transaction may be.
const TOO_LARGE_BYTES: usize = 8 * 1024 * 1024 + 1;

pub(super) async fn cases(world: &World) -> Result<Vec<Outcome>> {
    let mut outcomes = vec![accepted(world).await?];
    for (id, requirement, must, hint, bytes) in wrong(world)? {
        let finding = world.must_refuse(bytes).await?;
        outcomes.push(
            Case {
                id,
                requirement,
                level: Level::Must,
                must,
                hint,
            }
            .outcome(finding),
        );
    }
    outcomes.extend(padding(world).await?);
    outcomes.push(unknown_key(world).await?);
    Ok(outcomes)
}

/// The control of all others: a right transaction is accepted, and its receipt holds.
async fn accepted(world: &World) -> Result<Outcome> {
    let envelope = world.envelope();
    let lane = envelope.lane;
    let position = envelope.sequence;
    let transaction = world.sign(&[envelope]);
    let sent = world.send(transaction.bytes).await?;
    let ok = match &sent {
        Sent::Receipt(receipt) => {
            world
                .next
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            receipt.answers == [Answer::Accepted]
                && receipt.root == transaction.root
                && receipt.origin == world.peer.name
                && receipt.destination == world.target.server
                && receipt.link_epoch == world.link_epoch
                && receipt.position(&lane) == Some(position)
                && world
                    .server_keys
                    .envelope
                    .iter()
                    .any(|key| receipt.is_signed_by(key))
        }
        Sent::Reply(_) | Sent::Cut(_) => false,
    };
    let case = Case {
        id: "transaction.accepted",
        requirement: "LINK-040",
        level: Level::Must,
        must: "a right transaction is accepted, and the receipt names it, states the position and is signed",
        hint: "the receipt's signature is by a key of the server's manifest, over the receipt's label and body",
    };
    Ok(case.outcome(Finding::new(ok, sent.describe())))
}

type Wrong = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Vec<u8>,
);

/// One transaction for each way to be wrong as a whole.
fn wrong(world: &World) -> Result<Vec<Wrong>> {
    let one = |change: fn(&mut Envelope)| {
        let mut envelope = world.envelope();
        change(&mut envelope);
        world.sign(&[envelope]).bytes
    };
    let right = || world.sign(&[world.envelope()]).bytes;
    let mut flipped = right();
    if let Some(byte) = flipped.get_mut(10) {
        *byte ^= 1;
    }
    let trailing = [right(), vec![0]].concat();
    let mut cut = right();
    cut.pop();
    let other_label = sign(&world.peer.envelope_key, RECEIPT_LABEL, &[world.envelope()]).bytes;
    let first = world.envelope();
    let second = world.envelope_at(first.sequence.saturating_add(1));
    let disordered = world.sign(&[second, first]).bytes;
    let by_another = sign(
        &*world.another_key()?,
        TRANSACTION_LABEL,
        &[world.envelope()],
    )
    .bytes;
    Ok(vec![
        (
            "transaction.bad-signature",
            "ENV-012",
            "a changed signature is refused",
            "verify over the bytes as received",
            flipped,
        ),
        (
            "transaction.other-signer",
            "ENV-012",
            "a signature by another key under the peer's key id is refused",
            "look the key up in the pinned manifest",
            by_another,
        ),
        (
            "transaction.other-label",
            "ENC-013",
            "a signature made for another purpose is refused",
            "the label is part of what is signed",
            other_label,
        ),
        (
            "transaction.forged-origin",
            "ENV-011",
            "envelopes in another server's name are refused",
            "the origin is the peer that the connection authenticated",
            one(|e| e.origin = "other.example".to_owned()),
        ),
        (
            "transaction.wrong-destination",
            "ENV-011",
            "envelopes for another server are refused",
            "the destination is this server",
            one(|e| e.destination = "other.example".to_owned()),
        ),
        (
            "transaction.trailing-bytes",
            "ENC-003",
            "bytes after the end are refused",
            "the decoder takes one whole value and nothing else",
            trailing,
        ),
        (
            "transaction.truncated",
            "ENC-002",
            "bytes that end early are refused",
            "the decoder takes one whole value and nothing else",
            cut,
        ),
        (
            "transaction.empty",
            "ENC-002",
            "no bytes at all are refused",
            "an empty body is no transaction",
            Vec::new(),
        ),
        (
            "transaction.too-large",
            "ENC-004",
            "more than 8 MiB are refused",
            "limit the body before reading it",
            vec![0; TOO_LARGE_BYTES],
        ),
        (
            "transaction.unknown-version",
            "ENC-012",
            "a version that was not negotiated is refused",
            "refuse, don't guess",
            one(|e| e.version = 2),
        ),
        (
            "transaction.unknown-suite",
            "ENC-007",
            "an unknown cryptographic suite is refused",
            "refuse, don't guess",
            one(|e| e.suite = 2),
        ),
        (
            "transaction.unknown-kind",
            "ENC-007",
            "an unknown kind of envelope is refused",
            "refuse, don't guess",
            one(|e| e.kind = 99),
        ),
        (
            "transaction.position-zero",
            "LINK-001",
            "position 0 is refused",
            "positions begin at 1",
            one(|e| e.sequence = 0),
        ),
        (
            "transaction.lane-order",
            "ENV-015",
            "positions of a lane that do not ascend are refused",
            "the positions of each lane ascend within a transaction",
            disordered,
        ),
        (
            "transaction.mortal-tombstone",
            "ENV-003",
            "a tombstone that expires is refused",
            "a tombstone has expires_ms 0",
            one(|e| {
                e.kind = TOMBSTONE;
                e.payload = Encoder::new().u32(1).u16(19).finish();
            }),
        ),
        (
            "transaction.other-payload",
            "ENV-013",
            "a payload that is not the one its header names is refused",
            "hash every payload",
            one(|e| e.claimed_hash = Some([7; 32])),
        ),
    ])
}

/// Bodies that are not padded as they must be.
async fn padding(world: &World) -> Result<Vec<Outcome>> {
    let right = world.sign(&[world.envelope()]).bytes;
    let mut not_zero = pad(&right);
    if let Some(last) = not_zero.last_mut() {
        *last = 1;
    }
    let mut other_bucket = pad(&right);
    other_bucket.resize(other_bucket.len().saturating_mul(2), 0);
    let mut outcomes = Vec::new();
    for (id, must, body) in [
        (
            "transaction.not-padded",
            "a body without padding is refused",
            right,
        ),
        (
            "transaction.padded-with-ones",
            "padding of anything but zeros is refused",
            not_zero,
        ),
        (
            "transaction.other-bucket",
            "a body of another bucket than its content's is refused",
            other_bucket,
        ),
    ] {
        let finding = world.must_refuse_body(body).await?;
        let case = Case {
            id,
            requirement: "NET-051",
            level: Level::Must,
            must,
            hint: "a body has one padded form",
        };
        outcomes.push(case.outcome(finding));
    }
    Ok(outcomes)
}

/// A key that the manifest does not list: not refused for good, for the peer may have a newer manifest.
async fn unknown_key(world: &World) -> Result<Outcome> {
    let mut envelope = world.envelope();
    envelope.key_id = [9; 8];
    let sent = world.send(world.sign(&[envelope]).bytes).await?;
    let taken = sent
        .answers()
        .iter()
        .any(|answer| matches!(answer, Answer::Accepted | Answer::Duplicate));
    let case = Case {
        id: "transaction.unknown-key",
        requirement: "ENV-012",
        level: Level::Must,
        must: "envelopes under a key that no manifest lists are not taken",
        hint: "fetch the manifest from the origin, and defer until it lists the key",
    };
    Ok(case.outcome(Finding::new(!taken, sent.describe())))
}
