//! What the organisations in a room let it do: the signed consent of each, and what follows from all together.
//!
//! The room's settings carry one consent for each organisation that takes part. A message is held to what all of
//! them allow; nobody comes in whose organisation has not consented to be with every other one there. A consent
//! gives way to a later one of the same organisation alone, also when that was away meanwhile. Once one has ended, the room goes on with removals and
//! with a newer consent, and with nothing else.

use std::collections::BTreeMap;

use federation_proto::ids::ServerName;
use federation_proto::refusal::RefusalCode;
use federation_proto::room_consent::{SignedRoomConsent, Span};
use serde::{Deserialize, Serialize};

use crate::certificate::AnchorSet;
use crate::error::Error;
use crate::settings::{
    Account, ORGANISATIONS_EVER_MAX, RETAINED_EPOCHS, Role, RoomSettings, former_serials,
};

/// The consents in a room, by whose they are.
pub type Consents = BTreeMap<ServerName, SignedRoomConsent>;

/// What all organisations in a room let its messages be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Least time-to-live.
    pub ttl_min_seconds: u32,
    /// Greatest time-to-live.
    pub ttl_max_seconds: u32,
    /// Least burn-on-read time; 0: a message need not burn.
    pub burn_min_seconds: u32,
    /// Greatest burn-on-read time.
    pub burn_max_seconds: u32,
    /// Highest label.
    pub label_max: u8,
    /// Most epochs that are kept for late messages.
    pub retained_epochs: u16,
}

impl Default for Bounds {
    /// Those of a room without consents.
    fn default() -> Self {
        Self {
            ttl_min_seconds: 1,
            ttl_max_seconds: u32::MAX,
            burn_min_seconds: 0,
            burn_max_seconds: u32::MAX,
            label_max: u8::MAX,
            retained_epochs: RETAINED_EPOCHS,
        }
    }
}

impl Bounds {
    /// What all of these allow.
    ///
    /// # Errors
    /// [`Error::NoCommonBounds`] when that is nothing.
    pub fn of(consents: &Consents) -> Result<Self, Error> {
        let mut bounds = Self::default();
        let all = || consents.values().map(SignedRoomConsent::claims);
        let ttl = all().map(|consent| (&consent.server, consent.ttl));
        if let Some(ttl) = common("messages live", ttl)? {
            (bounds.ttl_min_seconds, bounds.ttl_max_seconds) = (ttl.min_seconds, ttl.max_seconds);
        }
        let burn = all().map(|consent| (&consent.server, consent.burn));
        if let Some(burn) = common("read messages live", burn)? {
            (bounds.burn_min_seconds, bounds.burn_max_seconds) =
                (burn.min_seconds, burn.max_seconds);
        }
        for consent in all() {
            bounds.label_max = bounds.label_max.min(consent.label_max);
            bounds.retained_epochs = bounds.retained_epochs.min(consent.retained_epochs);
        }
        Ok(bounds)
    }

    /// Whether a message may be so.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] with what it may be.
    pub fn check(&self, ttl_seconds: u32, burn_seconds: u32, label: u8) -> Result<(), Error> {
        let span = |min_seconds, max_seconds| Span {
            min_seconds,
            max_seconds,
        };
        let ttl = span(self.ttl_min_seconds, self.ttl_max_seconds);
        let burn = span(self.burn_min_seconds, self.burn_max_seconds);
        let refused = |code, what: String| {
            let reason = format!("the organisations in this room let {what}");
            Err(Error::OutOfBounds { code, reason })
        };
        if !ttl.contains(ttl_seconds) {
            let what = format!("messages live {}", words(ttl));
            return refused(RefusalCode::TtlOutOfBounds, what);
        }
        if !burn.contains(burn_seconds) {
            let what = format!("read messages live {}", words(burn));
            return refused(RefusalCode::BurnOutOfBounds, what);
        }
        if label > self.label_max {
            let what = format!("messages have labels up to {}", self.label_max);
            return refused(RefusalCode::OutOfScope, what);
        }
        Ok(())
    }
}

/// The intersection of what each allows; `None` for nobody's.
fn common<'a>(
    what: &str,
    spans: impl Iterator<Item = (&'a ServerName, Span)>,
) -> Result<Option<Span>, Error> {
    let spans: Vec<_> = spans.collect();
    let strictest = (
        spans.iter().max_by_key(|(_, span)| span.min_seconds),
        spans.iter().min_by_key(|(_, span)| span.max_seconds),
    );
    let (Some((one, least)), Some((other, greatest))) = strictest else {
        return Ok(None);
    };
    if least.min_seconds > greatest.max_seconds {
        return Err(Error::NoCommonBounds(format!(
            "{one} lets {what} {}, {other} {}: no value suits both; ask their administrators",
            words(*least),
            words(*greatest)
        )));
    }
    Ok(Some(Span {
        min_seconds: least.min_seconds,
        max_seconds: greatest.max_seconds,
    }))
}

fn words(span: Span) -> String {
    let Span {
        min_seconds,
        max_seconds,
    } = span;
    format!(
        "from {} to {}",
        in_words(min_seconds),
        in_words(max_seconds)
    )
}

/// A time in the largest unit of which it is a whole number.
fn in_words(seconds: u32) -> String {
    let units = [(86_400, "days"), (3_600, "hours"), (60, "minutes")];
    let whole = units
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "seconds"));
    format!("{} {name}", seconds / unit)
}

/// A room, as consents are judged in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The group's id.
    pub(crate) room: &'a [u8],
    /// The hub's time, milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
    /// The roots.
    pub(crate) anchors: &'a AnchorSet,
}

/// What a commit does beside changing the settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acts {
    /// It adds devices.
    pub(crate) adds: bool,
    /// It removes devices.
    pub(crate) removes: bool,
}

/// Whether a commit that leads from the settings `current` to `next` keeps to the consents.
pub(crate) fn check_commit(
    current: &RoomSettings,
    next: &RoomSettings,
    acts: Acts,
    place: Place<'_>,
) -> Result<(), Error> {
    if next.consents.is_empty() {
        return match current.consents.is_empty() {
            true => Ok(()),
            false => Err(Error::refused("a room keeps its policy")),
        };
    }
    let mut renews = false;
    for (server, consent) in &next.consents {
        let former = current.consents.get(server);
        if former == Some(consent) {
            // Judged when it came: what has become of its organisation's roots since does not count.
            continue;
        }
        let serial = consent.claims().serial;
        // Of one that comes back, the last one that it had here may stand there again.
        let is_older = former.is_some_and(|former| serial <= former.claims().serial)
            || current
                .former
                .get(server)
                .is_some_and(|last| serial < *last);
        if is_older {
            return Err(Error::Consent(format!(
                "the room consent of {server} gives way to a later one alone"
            )));
        }
        verify(consent, place.room, place.anchors)?;
        if !consent.claims().is_in_force(place.now_ms) {
            return Err(Error::ConsentEnded(server.clone()));
        }
        renews = true;
    }
    if next.former != former_serials(&current.former, &current.consents, &next.consents) {
        return Err(Error::refused(
            "a room keeps the serials of the consents of organisations that are gone, and makes none up",
        ));
    }
    let grows = next
        .consents
        .keys()
        .any(|server| !current.consents.contains_key(server));
    if grows && next.consents.len() + next.former.len() > ORGANISATIONS_EVER_MAX {
        return Err(Error::refused(format!(
            "a room has had at most {ORGANISATIONS_EVER_MAX} organisations: begin another one"
        )));
    }
    if renews || grows {
        check_mesh(&next.consents)?;
        Bounds::of(&next.consents)?;
    }
    match lapsed(next, place.now_ms) {
        Some(_) if !acts.adds && (acts.removes || renews) && only_ends(current, next) => Ok(()),
        Some(lapsed) => Err(lapsed),
        None => Ok(()),
    }
}

/// Whether a room's consents hold together, as whoever comes into it finds them. With a time, whether all are in force.
pub(crate) fn check_all(
    settings: &RoomSettings,
    room: &[u8],
    anchors: &AnchorSet,
    now_ms: Option<u64>,
) -> Result<(), Error> {
    if settings.consents.is_empty() {
        return Err(Error::Consent(
            "a room has a consent of each organisation in it, and this one has none: whoever begins it needs a \
             newer client"
                .to_owned(),
        ));
    }
    for consent in settings.consents.values() {
        verify(consent, room, anchors)?;
    }
    check_mesh(&settings.consents)?;
    Bounds::of(&settings.consents)?;
    match now_ms.and_then(|now_ms| lapsed(settings, now_ms)) {
        Some(lapsed) => Err(lapsed),
        None => Ok(()),
    }
}

fn verify(consent: &SignedRoomConsent, room: &[u8], anchors: &AnchorSet) -> Result<(), Error> {
    let claims = anchors.verify_consent(consent)?;
    if claims.room.as_bytes() != room {
        return Err(Error::Consent(format!(
            "the room consent of {} is for another room",
            claims.server
        )));
    }
    Ok(())
}

/// Whether each has consented to be with each other.
///
/// # Errors
/// [`Error::NotFullMesh`] with the first two of whom one has not.
pub fn check_mesh(consents: &Consents) -> Result<(), Error> {
    for (server, consent) in consents {
        let missing = consents
            .keys()
            .find(|other| !consent.claims().domains.contains(*other));
        if let Some(other) = missing {
            return Err(Error::NotFullMesh {
                one: server.clone(),
                other: other.clone(),
            });
        }
    }
    Ok(())
}

/// Why a room stands still but for removals and newer consents, if it does.
#[must_use]
pub fn lapsed(settings: &RoomSettings, now_ms: u64) -> Option<Error> {
    settings.consents.iter().find_map(|(server, consent)| {
        let claims = consent.claims();
        if !claims.is_in_force(now_ms) {
            return Some(Error::ConsentEnded(server.clone()));
        }
        let recorder: Account = (server.clone(), claims.recorder?);
        let is_there = settings.participants.contains_key(&recorder);
        (!is_there).then(|| {
            Error::Consent(format!(
                "{server} consents to this room only while its recorder takes part"
            ))
        })
    })
}

/// Whether settings differ in nothing but in whom they no longer list, in newer consents, and in who has become the
/// owner of a room without one.
fn only_ends(current: &RoomSettings, next: &RoomSettings) -> bool {
    let stays = |(account, role): (&Account, &Role)| {
        let before = current.participants.get(account);
        let succeeds = *role == Role::Owner && !current.has_owner();
        before.is_some_and(|before| before == role || succeeds)
    };
    let same = (&current.hub, current.retained_epochs, &current.name)
        == (&next.hub, next.retained_epochs, &next.name);
    same && next.participants.iter().all(stays)
}

#[cfg(test)]
mod tests;
