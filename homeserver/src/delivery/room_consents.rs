//! What this organisation lets a room do: its signed consent, for whoever brings its people into the room, and for its
//! own people to renew it. Between servers question and answer are envelopes, so no call waits for a peer.
//!
//! A consent says what all user types together allow, within the agreements with every organisation that is named; it
//! ends when the first of these agreements does. Without an agreement with one of them there is none.

use std::collections::BTreeSet;

use federation_proto::codec::Wire;
use federation_proto::ids::{DeviceId, Member, RequestId, RoomId, ServerName};
use federation_proto::limits::{ROOM_CONSENT_MS_MAX, ROOM_DOMAINS_MAX, ROOM_EPOCHS_MAX};
use federation_proto::payload::{Payload, RoomConsentRequest, RoomConsentResponse, Sender};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::room_consent::{RoomConsent, SignedRoomConsent, Span};
use homeserver_api::policy::{Bounds, UserTypePolicy};

use super::batch::{Batch, NotTaken, Times, policy_links};
use super::dead_letters::said_by;
use super::envelope::{append_if_room, not_asked};
use super::limits::GROUP_INFO_REQUEST_TTL_MS;
use super::settle;
use super::submit::Submitter;
use crate::identity::user_types;
use crate::policy::{self, Input, told_abroad};
use crate::store::StoreError;
use crate::store::inbox::InboxBody;
use crate::store::key_request::{self, Asked, KeyRequestRecord};

/// Asks an organisation for its consent to a room, for a device of this homeserver.
pub(super) async fn ask(
    submitter: &Submitter<'_>,
    batch: &mut Batch<'_>,
    counter: u64,
    request: RequestId,
    (server, room, domains): (&ServerName, RoomId, &[ServerName]),
) -> Result<(), NotTaken> {
    let member = submitter.member().clone();
    let domains: BTreeSet<ServerName> = domains.iter().cloned().collect();
    not_too_often(batch, &member)?;
    if *server == batch.node.server {
        let signed = sign(batch, room, domains).await;
        let result = settle(signed)?;
        return hand_over(batch, member.device, request, room, result).await;
    }
    submitter.evaluate(batch, [server], &Input::Invite)?;
    let times = times(batch);
    let payload = Payload::RoomConsentRequest(RoomConsentRequest {
        request,
        room,
        requester: Sender {
            account: member.account,
            device: member.device,
        },
        domains,
    });
    let open = KeyRequestRecord {
        server: server.clone(),
        of: Asked::Consent(room),
        named: Vec::new(),
        // The request may travel that long, and then its answer.
        expires_ms: times.expires_ms.saturating_add(GROUP_INFO_REQUEST_TTL_MS),
    };
    key_request::put(&mut batch.part, member.device, request, &open)?;
    let sender = submitter.sender_ref(room, counter);
    batch
        .send(server, None, &payload, times, Some(sender))
        .await
}

/// Answers the peer, whose people are to be in the room.
pub(super) async fn take_request(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    asked: RoomConsentRequest,
) -> Result<(), NotTaken> {
    let RoomConsentRequest {
        request,
        room,
        requester: Sender { account, device },
        domains,
    } = asked;
    let member = Member {
        server: peer.clone(),
        account,
        device,
    };
    let signed = answer(batch, &member, room, domains).await;
    let result = settle(signed)?;
    if let Err(refusal) = &result {
        let (code, detail) = (refusal.code, refusal.to_string());
        batch.audit_refusal(peer, "room-consent.refused", room, code, detail);
        batch.note_refused_answer();
    }
    let response = Payload::RoomConsent(RoomConsentResponse {
        request,
        room,
        device,
        result: result.map_err(told_abroad),
    });
    let times = times(batch);
    batch.send(peer, None, &response, times, None).await
}

async fn answer(
    batch: &mut Batch<'_>,
    member: &Member,
    room: RoomId,
    domains: BTreeSet<ServerName>,
) -> Result<SignedRoomConsent, NotTaken> {
    not_too_often(batch, member)?;
    if !domains.contains(&member.server) {
        return Err(NotTaken::refused(
            RefusalCode::Malformed,
            "whoever asks for a consent to a room is to be in it",
        ));
    }
    sign(batch, room, domains).await
}

/// Hands a peer's answer to the device that has asked.
pub(super) async fn take_response(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    response: RoomConsentResponse,
) -> Result<(), NotTaken> {
    let RoomConsentResponse {
        request,
        room,
        device,
        result,
    } = response;
    let found = key_request::get(&batch.node.store, device, request).await?;
    let now_ms = batch.now_ms;
    let asked = found.filter(|(asked, _)| {
        asked.server == *peer && asked.of == Asked::Consent(room) && asked.expires_ms > now_ms
    });
    let Some((_, read)) = asked else {
        return Err(not_asked());
    };
    let is_theirs = |consent: &SignedRoomConsent| {
        consent.claims().server == *peer && consent.claims().room == room
    };
    if result.as_ref().is_ok_and(|consent| !is_theirs(consent)) {
        return Err(NotTaken::refused(
            RefusalCode::Malformed,
            "the consent is another organisation's, or for another room",
        ));
    }
    // An answer to the same request, earlier in this part?
    if !batch.take(key_request::key(device, request)) {
        return Err(not_asked());
    }
    key_request::take(&mut batch.part, device, request, read);
    let result = result.map_err(|refusal| said_by(peer, &refusal));
    hand_over(batch, device, request, room, result).await
}

fn not_too_often(batch: &Batch<'_>, member: &Member) -> Result<(), NotTaken> {
    let node = batch.node;
    if node.consent_rates.take(member, &node.server, batch.now_ms) {
        return Ok(());
    }
    Err(NotTaken::refused(
        RefusalCode::RateLimited,
        "too many requests for consents to rooms: ask again in a few minutes",
    ))
}

const fn times(batch: &Batch<'_>) -> Times {
    Times {
        accepted_ms: batch.now_ms,
        expires_ms: batch.now_ms.saturating_add(GROUP_INFO_REQUEST_TTL_MS),
    }
}

/// Puts an answer into the inbox of the device that has asked.
async fn hand_over(
    batch: &mut Batch<'_>,
    device: DeviceId,
    request: RequestId,
    room: RoomId,
    result: Result<SignedRoomConsent, Refusal>,
) -> Result<(), NotTaken> {
    let result = result.and_then(|consent| {
        consent
            .to_bytes()
            .map_err(|error| Refusal::new(RefusalCode::TooLarge, format!("the consent: {error}")))
    });
    let body = InboxBody::RoomConsent {
        request,
        room,
        result,
    };
    append_if_room(batch, device, body).await
}

/// This organisation's consent to a room with these organisations, itself among them.
async fn sign(
    batch: &mut Batch<'_>,
    room: RoomId,
    domains: BTreeSet<ServerName>,
) -> Result<SignedRoomConsent, NotTaken> {
    let node = batch.node;
    if !domains.contains(&node.server) || domains.len() > ROOM_DOMAINS_MAX {
        return Err(NotTaken::refused(
            RefusalCode::Malformed,
            format!(
                "a room has at most {ROOM_DOMAINS_MAX} organisations, and this one, whose consent is asked for, among them"
            ),
        ));
    }
    let links = batch.links(&domains);
    for link in &policy_links(&links) {
        policy::evaluate_standing(link, batch.now_ms)
            .into_result()
            .map_err(|refusal| not_a_peer(&node.server, link.server, &refusal))?;
    }
    let agreements: Vec<_> = links.into_iter().filter_map(|(_, view)| view).collect();
    let mut consent = own_rules(batch, room, domains).await?;
    for view in &agreements {
        let agreement = &view.agreement;
        consent.ttl.min_seconds = consent.ttl.min_seconds.max(agreement.ttl_min_seconds);
        consent.ttl.max_seconds = consent.ttl.max_seconds.min(agreement.ttl_max_seconds);
        consent.label_max = consent.label_max.min(agreement.label_max);
        consent.expires_ms = consent.expires_ms.min(agreement.expires_ms);
    }
    // Clients hold themselves to it: where no bound holds, they must not either.
    #[cfg(feature = "faults")]
    if crate::faults::is_on("accept-any-ttl") {
        consent.ttl = Span {
            min_seconds: 1,
            max_seconds: u32::MAX,
        };
    }
    if consent.ttl.min_seconds > consent.ttl.max_seconds {
        return Err(NotTaken::refused(
            RefusalCode::TtlOutOfBounds,
            format!(
                "the rules of {} and its agreements leave no time-to-live for such a room: ask your administrator",
                node.server
            ),
        ));
    }
    node.keys
        .sign_room_consent(consent, node.random.as_ref())
        .map_err(|error| NotTaken::Store(StoreError::Engine(error.to_string())))
}

/// What this organisation's own rules allow, whichever user types its people in the room have: at home each
/// message is held to its sender's.
async fn own_rules(
    batch: &Batch<'_>,
    room: RoomId,
    domains: BTreeSet<ServerName>,
) -> Result<RoomConsent, StoreError> {
    let node = batch.node;
    let all = user_types::list(node).await?;
    let widest = |span: fn(&UserTypePolicy) -> Span| {
        let mut spans = all.iter().map(|user_type| span(&user_type.policy));
        let first = spans.next().unwrap_or(Span {
            min_seconds: 1,
            max_seconds: 1,
        });
        spans.fold(first, |widest, span| Span {
            min_seconds: widest.min_seconds.min(span.min_seconds),
            max_seconds: widest.max_seconds.max(span.max_seconds),
        })
    };
    Ok(RoomConsent {
        room,
        server: node.server.clone(),
        domains,
        ttl: widest(|policy| as_span(&policy.ttl)),
        burn: widest(|policy| as_span(&policy.burn)),
        label_max: all
            .iter()
            .map(|user_type| user_type.policy.labels.max)
            .max()
            .unwrap_or(u8::MAX),
        retained_epochs: ROOM_EPOCHS_MAX,
        // Nothing here records rooms.
        recorder: None,
        serial: batch.now_ms,
        expires_ms: batch.now_ms.saturating_add(ROOM_CONSENT_MS_MAX),
    })
}

const fn as_span(bounds: &Bounds) -> Span {
    Span {
        min_seconds: bounds.min_seconds,
        max_seconds: bounds.max_seconds,
    }
}

fn not_a_peer(own: &ServerName, other: &ServerName, refusal: &Refusal) -> NotTaken {
    NotTaken::refused(
        RefusalCode::NotFullMesh,
        format!(
            "{own} and {other} have no agreement in force with each other ({}): every two organisations in a room \
             need one",
            refusal.code
        ),
    )
}
