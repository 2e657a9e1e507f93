//! From a peer's record to what the rest of the house sees of it.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::agreement::{
    self, Agreement as Stored, Amendment, Grants, Papers, Signed, State,
};
use federation_proto::ids::ServerName;
use federation_proto::manifest::{self, Manifest};
use homeserver_api::admin::{Grant, Operation, PeerState};

use super::directory::{Chartered, Ended, Parted, PeerView, WaitingBounds};
use crate::policy::{Agreement, Standing};
use crate::store::peer::{OurHalf, PeerRecord, Renewal, StoredManifest};
use crate::store::{StoreError, agreement_serial};
use crate::tls::PeerAnchor;

/// A record whose documents have been checked again.
pub(super) struct Restored {
    /// The agreement that both signed, or what became of it.
    pub(super) current: Option<Stored>,
    /// What is under way.
    pub(super) ceremony: Option<Stored>,
}

impl Restored {
    /// Checks the documents of a record.
    pub(super) fn of(record: &PeerRecord) -> Result<Self, StoreError> {
        let restore = |stored: &Option<agreement::Record>| {
            let restored = stored.as_ref().map(Stored::restore).transpose();
            restored.map_err(|_| StoreError::Corrupt { family: "peer" })
        };
        Ok(Self {
            current: restore(&record.current)?,
            ceremony: restore(&record.ceremony)?,
        })
    }

    /// What counts: the signed agreement while it is in force, else what is under way, else what
    /// became of the signed one.
    pub(super) fn shown(&self) -> Option<&Stored> {
        let in_force = self
            .current
            .as_ref()
            .filter(|current| matches!(current, Stored::Active(_) | Stored::Suspended(_)));
        in_force
            .or(self.ceremony.as_ref())
            .or(self.current.as_ref())
    }
}

/// The state as the admin API names it.
pub(super) fn state(stored: &Stored) -> PeerState {
    match stored.state() {
        State::Active if paused_by_partner(stored) => PeerState::Suspended,
        State::Offered => PeerState::Offered,
        State::Accepted => PeerState::Accepted,
        State::Active => PeerState::Active,
        State::Suspended => PeerState::Suspended,
        State::Expired => PeerState::Expired,
        State::Revoked => PeerState::Revoked,
    }
}

fn paused_by_partner(stored: &Stored) -> bool {
    stored
        .signed()
        .is_some_and(|signed| signed.heard().pause().is_some())
}

/// The peer as the rest of the house sees it.
pub(super) fn of(server: &ServerName, record: &PeerRecord) -> Result<PeerView, StoreError> {
    let corrupt = StoreError::Corrupt { family: "peer" };
    let restored = Restored::of(record)?;
    let shown = restored.shown().ok_or(corrupt)?;
    let told = restored
        .current
        .as_ref()
        .filter(|_| !record.outgoing.is_empty());
    let known = partner(shown).or_else(|| told.and_then(former_partner));
    let manifest = match (&known, &record.manifest) {
        (Some(known), Some(newer)) => Some(newest(server, known, newer)),
        (known, _) => known.as_ref().map(|known| Arc::new(known.manifest.clone())),
    };
    let former = shown
        .signed()
        .and_then(|signed| former(server, signed, record));
    let to_deliver = shown.signed().filter(|_| record.to_deliver);
    let signed = restored.current.as_ref().and_then(Stored::signed);
    let our_proposal = signed.and_then(|signed| signed.amendments(signed.side()).proposed());
    Ok(PeerView {
        server: server.clone(),
        state: state(shown),
        agreed: restored.current.as_ref().map(state),
        suspended_here: matches!(restored.current, Some(Stored::Suspended(_))),
        // What both have signed decides, also while a new agreement is under way.
        agreement: agreement(restored.current.as_ref().unwrap_or(shown)),
        root: known
            .as_ref()
            .map_or_else(Vec::new, |known| known.root.to_vec()),
        former: former
            .as_ref()
            .map(|manifest| anchor(manifest.identity().root().to_vec(), manifest)),
        former_manifest: former,
        our_root: signed_root(&restored),
        our_proposed_root: our_proposal.map(|proposed| proposed.statement().root.clone()),
        our_proposal: our_proposal.map(Amendment::sha256),
        endpoints: known.map_or_else(Vec::new, |known| known.endpoints),
        manifest,
        link_epoch: record.link_epoch,
        renumbered: record.renumbered,
        waiting: restored.current.as_ref().and_then(waiting),
        ceremony_ends_ms: restored.ceremony.as_ref().and_then(ceremony_ends_ms),
        countersignature_to_deliver: to_deliver
            .map(|signed| signed.countersignature().bytes().clone()),
        outgoing: record.outgoing.clone(),
        warned: record.warned,
        chartered: shown.signed().and_then(|signed| chartered(signed, record)),
        proposed: shown.signed().is_some_and(|signed| {
            let theirs = signed.amendments(signed.side().other());
            theirs.proposed().is_some()
        }),
        ended: match &restored.current {
            Some(Stored::Revoked(revoked)) => Some(Ended {
                at_ms: revoked.at_ms(),
                last_day_ms: match revoked.papers() {
                    Papers::Signed(signed) => signed.effective().expires_ms(),
                    Papers::Offer(_) | Papers::Acceptance(_) => 0,
                },
            }),
            _ => None,
        },
        parted: restored
            .current
            .as_ref()
            .and_then(|current| parted(server, current, record)),
        serial: (
            agreement_serial::key(server),
            Some(agreement_serial::value(record.serial)),
        ),
    })
}

/// What TLS pins for a peer with this root and this manifest.
pub(super) fn anchor(root: Vec<u8>, manifest: &Manifest) -> PeerAnchor {
    let pins = manifest.body().tls_pins.iter();
    PeerAnchor {
        roots: vec![root.into()],
        pins: pins.map(|pin| *pin.as_bytes()).collect(),
    }
}

/// The root of ours that the partner goes by, whatever becomes of the agreement.
fn signed_root(restored: &Restored) -> Option<Bytes> {
    let signed = restored.current.as_ref()?.signed()?;
    Some(signed.ours().root.clone())
}

/// Which charter the agreement follows from, and how far it is with a later one.
pub(super) fn chartered(signed: &Signed, record: &PeerRecord) -> Option<Chartered> {
    let charter = signed.chartered()?;
    let renewal = record.renewal.clone();
    let proposed = |side| signed.amendments(side).proposed();
    let (ours, theirs) = (proposed(signed.side()), proposed(signed.side().other()));
    let lost = match renewal.as_ref().map(|renewal| renewal.ours) {
        Some(OurHalf::Due) => true,
        Some(OurHalf::Proposed(made)) => ours.is_none_or(|ours| *ours.sha256().as_bytes() != made),
        Some(OurHalf::InForce | OurHalf::Refused) | None => false,
    };
    Some(Chartered {
        consortium: charter.consortium,
        name: charter.name,
        serial: charter.serial,
        renewed: renewal.as_ref().is_some_and(|renewal| {
            renewal.ours == OurHalf::InForce && has_renewed(signed.theirs(), renewal)
        }),
        // A charter may have been signed since the one that it is with.
        due: lost || theirs.is_some(),
        renewal,
    })
}

/// Whether the partner's statement is as the charter has it.
pub(super) fn has_renewed(theirs: &agreement::Statement, renewal: &Renewal) -> bool {
    renewal.theirs || theirs.expires_ms == renewal.expires_ms
}

/// The newest keys under the root that we consented away, while the peer may not know of our consent: it shows that
/// chain until then, and must be reached to be told.
fn former(server: &ServerName, signed: &Signed, record: &PeerRecord) -> Option<Arc<Manifest>> {
    let (statement, manifest) = signed.before_our_consent()?;
    if statement.root == signed.theirs().root {
        return None;
    }
    let known = Partner::of(statement, manifest);
    Some(match &record.manifest {
        Some(stored) => newest(server, &known, stored),
        None => Arc::new(known.manifest),
    })
}

/// The newest known manifests of the partner: one under each root that it may sign under.
pub(super) fn newest_known(
    server: &ServerName,
    signed: &Signed,
    record: &PeerRecord,
) -> Vec<Arc<Manifest>> {
    let in_force = Partner::of(signed.theirs(), signed.partner_manifest());
    let in_force = match &record.manifest {
        Some(stored) => newest(server, &in_force, stored),
        None => Arc::new(in_force.manifest),
    };
    let former = former(server, signed, record);
    std::iter::once(in_force).chain(former).collect()
}

fn waiting(current: &Stored) -> Option<WaitingBounds> {
    let effective = current.signed()?.effective();
    Some(WaitingBounds {
        outbound_bytes_max: effective.waiting_bytes_max(agreement::Direction::Outbound),
        inbound_bytes_max: effective.waiting_bytes_max(agreement::Direction::Inbound),
    })
}

fn ceremony_ends_ms(ceremony: &Stored) -> Option<u64> {
    match ceremony {
        Stored::Offered(offered) => Some(offered.ends_ms()),
        Stored::Accepted(accepted) => Some(accepted.ends_ms()),
        _ => None,
    }
}

/// What the partner has stated of itself.
struct Partner {
    root: Bytes,
    manifest: Manifest,
    endpoints: Vec<String>,
}

impl Partner {
    fn of(statement: &agreement::Statement, manifest: &Manifest) -> Self {
        Self {
            root: statement.root.clone(),
            manifest: manifest.clone(),
            endpoints: statement
                .endpoints
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

fn partner(shown: &Stored) -> Option<Partner> {
    match shown {
        Stored::Accepted(accepted) => Some(Partner::of(
            accepted.offer().statement(),
            accepted.offer().manifest(),
        )),
        _ => shown
            .signed()
            .map(|signed| Partner::of(signed.theirs(), signed.partner_manifest())),
    }
}

/// Whose agreement has ended, while it has yet to be told.
fn former_partner(ended: &Stored) -> Option<Partner> {
    match ended {
        Stored::Revoked(revoked) => match revoked.papers() {
            Papers::Signed(signed) => Some(Partner::of(signed.theirs(), signed.partner_manifest())),
            Papers::Offer(_) | Papers::Acceptance(_) => None,
        },
        _ => None,
    }
}

/// What remains of an agreement that both had signed, once it has ended.
fn parted(server: &ServerName, ended: &Stored, record: &PeerRecord) -> Option<Parted> {
    let (papers, at_ms) = match ended {
        Stored::Revoked(revoked) => (revoked.papers(), revoked.at_ms()),
        Stored::Expired(expired) => (expired.papers(), expired.at_ms()),
        Stored::Offered(_) | Stored::Accepted(_) | Stored::Active(_) | Stored::Suspended(_) => {
            return None;
        }
    };
    let Papers::Signed(signed) = papers else {
        return None;
    };
    let known = Partner::of(signed.theirs(), signed.partner_manifest());
    let former_roots = match &record.manifest {
        Some(stored) => newest(server, &known, stored).body().former_roots.clone(),
        None => known.manifest.body().former_roots.clone(),
    };
    Some(Parted {
        at_ms,
        // What was ended here takes no declaration any more: of two that come together each is its own side's.
        by_us: matches!(ended, Stored::Revoked(_)) && signed.heard().end().is_none(),
        root: known.root.to_vec(),
        former_roots,
    })
}

/// The one of the agreement's manifest and the stored one that came later.
fn newest(server: &ServerName, known: &Partner, stored: &StoredManifest) -> Arc<Manifest> {
    let Some(stored) = stored_manifest(server, &known.root, stored) else {
        return Arc::new(known.manifest.clone());
    };
    let (ours, theirs) = (stored.serial(), known.manifest.serial());
    if ours == theirs && stored.bytes() != known.manifest.bytes() {
        // The ceremony takes no such agreement: this record was not written by it.
        tracing::error!(%server, serial = ours, "two key manifests have one serial: keeping the first");
    }
    Arc::new(if ours >= theirs {
        stored
    } else {
        known.manifest.clone()
    })
}

/// The stored manifest, which was checked when it came; `None`: it is of another root, of an
/// organisation that has had this name before.
pub(super) fn stored_manifest(
    server: &ServerName,
    root: &Bytes,
    stored: &StoredManifest,
) -> Option<Manifest> {
    manifest::decode(stored.bytes.clone())
        .ok()?
        .verify(server, root, None, stored.taken_ms)
        .ok()
}

/// What the agreement allows, as policy sees it.
fn agreement(shown: &Stored) -> Agreement {
    let standing = match shown.state() {
        State::Offered | State::Accepted => Standing::Incomplete,
        State::Active if !paused_by_partner(shown) => Standing::Active,
        State::Active | State::Suspended => Standing::Suspended,
        State::Expired => Standing::Expired,
        State::Revoked => Standing::Revoked,
    };
    match shown.signed() {
        Some(signed) => granted(standing, signed),
        None => Agreement {
            standing,
            expires_ms: 0,
            outbound: Vec::new(),
            inbound: Vec::new(),
            ttl_min_seconds: 0,
            ttl_max_seconds: 0,
            file_bytes_max: 0,
            label_max: 0,
        },
    }
}

fn granted(standing: Standing, signed: &Signed) -> Agreement {
    let effective = signed.effective();
    // Statements without a common time-to-live let nothing through: 1 to 0 holds none.
    let (min, max) = effective
        .ttl()
        .map_or((1, 0), |ttl| (ttl.min_seconds, ttl.max_seconds));
    Agreement {
        standing,
        expires_ms: effective.expires_ms(),
        outbound: grants(effective.grants(agreement::Direction::Outbound)),
        inbound: grants(effective.grants(agreement::Direction::Inbound)),
        ttl_min_seconds: min,
        ttl_max_seconds: max,
        file_bytes_max: effective.file_bytes_max(),
        label_max: effective.label_max(),
    }
}

fn grants(grants: &Grants) -> Vec<Grant> {
    grants
        .iter()
        .map(|(operation, user_types)| Grant {
            operation: match operation {
                agreement::Operation::Message => Operation::Message,
                agreement::Operation::Invite => Operation::Invite,
                agreement::Operation::Directory => Operation::Directory,
                agreement::Operation::Files => Operation::Files,
            },
            user_types: user_types.names().map(str::to_owned).collect(),
        })
        .collect()
}
