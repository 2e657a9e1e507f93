//! What an organisation lets a room do: its signed consent (protocol, section 9).

use crate::agreement::now_ms;
use crate::failure::Result;
use crate::organisation::Organisation;
use crate::wire::{Decoder, Encoder};

/// Kinds of envelopes.
pub(crate) const ROOM_CONSENT_REQUEST: u8 = 18;
pub(crate) const ROOM_CONSENT: u8 = 19;
/// What an issuing key signs for a consent starts with this.
const LABEL: &[u8] = b"entente room consent";
/// How long one lasts, in milliseconds.
const VALIDITY_MS: u64 = 60 * 86_400_000;
/// Longest that messages live, and that read ones do, in seconds.
const SECONDS_MAX: u32 = 366 * 86_400;

/// The consent of the fake peer's organisation to a room with these, which has no bounds of its own.
pub(crate) fn of(peer: &Organisation, room: &[u8; 16], domains: &[&str]) -> Result<Vec<u8>> {
    let mut domains = domains.to_vec();
    // A set: strictly ascending.
    domains.sort_unstable();
    let list = domains.iter().fold(Encoder::new(), |list, server| {
        list.vector(1, server.as_bytes())
    });
    let signed_ms = now_ms();
    let body = Encoder::new()
        .u8(1)
        .fixed(room)
        .vector(1, peer.name.as_bytes())
        .vector(4, &list.finish())
        .u32(1)
        .u32(SECONDS_MAX)
        .u32(0)
        .u32(SECONDS_MAX)
        .u8(u8::MAX)
        .u16(32)
        // No recorder.
        .u8(0)
        .u64(signed_ms)
        .u64(signed_ms.saturating_add(VALIDITY_MS))
        .vector(2, &peer.issuing)
        .finish();
    let signature = peer.sign(LABEL, &body)?;
    Ok(Encoder::new().fixed(&body).vector(1, &signature).finish())
}

/// A request for the fake peer's consent: its id, the room and the device that asks.
pub(crate) fn asked(payload: &[u8]) -> Option<([u8; 16], [u8; 16], [u8; 16])> {
    let mut input = Decoder::new(payload);
    let (request, room) = (input.fixed()?, input.fixed()?);
    let (_account, device) = (input.fixed::<16>()?, input.fixed()?);
    let _domains = input.vector(4)?;
    input.is_empty().then_some((request, room, device))
}

/// The consent that answers a request.
pub(crate) fn answered(payload: &[u8], request: &[u8; 16], device: &[u8; 16]) -> Option<Vec<u8>> {
    let mut input = Decoder::new(payload);
    let (of, _room, asker): ([u8; 16], [u8; 16], [u8; 16]) =
        (input.fixed()?, input.fixed()?, input.fixed()?);
    let is_answer = (of, asker, input.u8()?) == (*request, *device, 1);
    is_answer.then(|| input.rest().to_vec())
}

/// The consents that a room extension carries, as they stand there.
pub(crate) fn in_room(extension: &[u8]) -> Option<&[u8]> {
    let mut input = Decoder::new(extension);
    let (_version, _hub) = (input.u8()?, input.vector(1)?);
    let (_epochs, _name, _domains) = (input.u16()?, input.vector(1)?, input.vector(4)?);
    let policy = input.u8()?;
    if !matches!(policy, 1 | 2) {
        return None;
    }
    let consents = input.vector(4)?;
    if policy == 2 {
        // Whose organisations are gone, with their last serials.
        input.vector(4)?;
    }
    let continues = match input.u8()? {
        0 => true,
        // The former room, an epoch, the authenticator, a device and its signature.
        1 => {
            let _former: ([u8; 16], u64, [u8; 32]) = (input.fixed()?, input.u64()?, input.fixed()?);
            let _by: (&[u8], [u8; 32]) = (input.vector(1)?, input.fixed()?);
            input.fixed::<64>().is_some()
        }
        _ => false,
    };
    (continues && input.is_empty()).then_some(consents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Role, room_extension};

    /// Goal: what a room extension carries is found again, and nothing in one without. Method: both.
    #[test]
    fn consents_in_rooms() {
        let participants = [("a.example", [1; 16], Role::Owner)];
        let with = room_extension("a.example", &participants, b"consents");
        assert_eq!(in_room(&with), Some(&b"consents"[..]));
        let without = room_extension("a.example", &participants, b"");
        assert_eq!(in_room(&without), None);
        assert_eq!(in_room(&with[..with.len() - 1]), None);
    }

    /// Goal: a consent is written as section 9 says. Method: its fields read one after the other, and the end of its
    /// signature.
    #[test]
    fn a_consent_is_as_it_is_specified() {
        let peer = Organisation::new("b.example").unwrap();
        let written = of(&peer, &[7; 16], &["c.example", "b.example"]).unwrap();
        let mut input = Decoder::new(&written);
        assert_eq!((input.u8(), input.fixed()), (Some(1), Some([7; 16])));
        assert_eq!(input.text(1).as_deref(), Some("b.example"));
        let list = [&[9][..], b"b.example", &[9], b"c.example"].concat();
        assert_eq!(input.vector(4), Some(&list[..]));
        let rest = input.take(4 * 4 + 1 + 2 + 1 + 2 * 8);
        assert!(rest.is_some());
        assert_eq!(input.vector(2), Some(&*peer.issuing));
        assert!(
            input
                .vector(1)
                .is_some_and(|signature| signature.len() > 60)
        );
        assert!(input.is_empty());
    }
}
