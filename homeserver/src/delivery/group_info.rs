//! A room's newest group info: asked for by a device that has fallen out of its room's step, answered by
//! the room's hub. Between servers question and answer are envelopes, so no call waits for a peer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use federation_proto::ids::{DeviceId, Member, RequestId, RoomId, ServerName};
use federation_proto::payload::{
    GroupInfo as WireGroupInfo, GroupInfoRequest, GroupInfoResponse, Payload, Sender,
};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::session::GroupInfo;

use super::batch::{Batch, NotTaken, Times};
use super::dead_letters::said_by;
use super::envelope::{append_if_room, malformed, not_asked};
use super::limits::{
    CONSENT_DEVICE_REQUESTS_MAX, CONSENT_PEER_REQUESTS_MAX, GROUP_INFO_COUNTED_MAX,
    GROUP_INFO_DEVICE_REQUESTS_MAX, GROUP_INFO_PEER_REQUESTS_MAX, GROUP_INFO_REQUEST_TTL_MS,
    GROUP_INFO_REQUESTS_MS,
};
use super::outbox::SenderRef;
use super::settle;
use crate::rooms::{hub, mls_framing, step, unknown_room};
use crate::store::inbox::InboxBody;
use crate::store::key_request::{self, Asked, KeyRequestRecord};

/// How many answers of a kind each device, and each peer, has asked for lately. In memory: a restart forgets
/// it, which harms nothing.
#[derive(Debug)]
pub struct Rates {
    /// What one device may have within [`GROUP_INFO_REQUESTS_MS`], and what a peer's devices may together.
    device_max: u32,
    peer_max: u32,
    counts: Mutex<Counts>,
}

type Counts = HashMap<(ServerName, Option<DeviceId>), Counted>;

#[derive(Debug, Clone, Copy)]
struct Counted {
    since_ms: u64,
    count: u32,
}

impl Rates {
    /// For group infos.
    pub fn of_group_infos() -> Self {
        Self::new(GROUP_INFO_DEVICE_REQUESTS_MAX, GROUP_INFO_PEER_REQUESTS_MAX)
    }

    /// For consents to rooms.
    pub fn of_consents() -> Self {
        Self::new(CONSENT_DEVICE_REQUESTS_MAX, CONSENT_PEER_REQUESTS_MAX)
    }

    fn new(device_max: u32, peer_max: u32) -> Self {
        Self {
            device_max,
            peer_max,
            counts: Mutex::default(),
        }
    }

    /// Counts a request of a device; `false`: it, or its server, has asked too often. Only peers are
    /// counted as a whole.
    pub(super) fn take(&self, member: &Member, own: &ServerName, now_ms: u64) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= GROUP_INFO_COUNTED_MAX {
            counts.retain(|_, counted| !counted.is_over(now_ms));
        }
        if counts.len() >= GROUP_INFO_COUNTED_MAX {
            counts.clear();
        }
        let mut count = |device, max| {
            let counted = counts
                .entry((member.server.clone(), device))
                .and_modify(|counted| {
                    if counted.is_over(now_ms) {
                        *counted = Counted::new(now_ms);
                    }
                })
                .or_insert_with(|| Counted::new(now_ms));
            counted.count = counted.count.saturating_add(1);
            counted.count <= max
        };
        // A device that asks too often must not use up what is its server's others'.
        count(Some(member.device), self.device_max)
            && (member.server == *own || count(None, self.peer_max))
    }
}

impl Counted {
    const fn new(since_ms: u64) -> Self {
        Self { since_ms, count: 0 }
    }

    const fn is_over(&self, now_ms: u64) -> bool {
        self.since_ms.saturating_add(GROUP_INFO_REQUESTS_MS) <= now_ms
    }
}

/// Asks for the group info of the room that `sender` names, for a device of this homeserver.
pub(super) async fn request(
    batch: &mut Batch<'_>,
    member: &Member,
    sender: SenderRef,
    request: RequestId,
) -> Result<(), NotTaken> {
    let room = sender.room;
    let hub = match batch.room(room).await? {
        Some(record) if record.may_act(member) => record.hub.clone(),
        Some(_) | None => return Err(unknown_room()),
    };
    if let Some(missed) = step::asked(batch, room, member.device).await? {
        append_if_room(batch, member.device, missed).await?;
    }
    if hub == batch.node.server {
        let answer = answer(batch, room, member).await;
        let result = settle(answer)?;
        return hand_over(batch, member.device, request, room, result).await;
    }
    not_too_often(batch, member)?;
    let payload = Payload::GroupInfoRequest(GroupInfoRequest {
        request,
        room,
        requester: Sender {
            account: member.account,
            device: member.device,
        },
    });
    let times = times(batch);
    let open = KeyRequestRecord {
        server: hub.clone(),
        of: Asked::GroupInfo(room),
        named: Vec::new(),
        // The request may travel that long, and then its answer.
        expires_ms: times.expires_ms.saturating_add(GROUP_INFO_REQUEST_TTL_MS),
    };
    key_request::put(&mut batch.part, member.device, request, &open)?;
    batch
        .send(&hub, Some(room), &payload, times, Some(sender))
        .await
}

/// The room's group info for a member, from the hub that this homeserver is.
async fn answer(
    batch: &mut Batch<'_>,
    room: RoomId,
    member: &Member,
) -> Result<GroupInfo, NotTaken> {
    let epoch = hub::epoch_for(batch, room, member).await?;
    not_too_often(batch, member)?;
    let newest = batch.group_info(room).await?.ok_or_else(|| {
        NotTaken::refused(
            RefusalCode::Unavailable,
            format!(
                "no group info is kept of epoch {epoch} of this room: ask again after its next commit"
            ),
        )
    })?;
    Ok(GroupInfo {
        epoch: newest.epoch,
        group_info: newest.group_info,
    })
}

fn not_too_often(batch: &Batch<'_>, member: &Member) -> Result<(), NotTaken> {
    let node = batch.node;
    if node
        .group_info_rates
        .take(member, &node.server, batch.now_ms)
    {
        return Ok(());
    }
    Err(NotTaken::refused(
        RefusalCode::RateLimited,
        format!(
            "too many requests for group infos: ask again in {} minutes",
            GROUP_INFO_REQUESTS_MS / 60_000
        ),
    ))
}

const fn times(batch: &Batch<'_>) -> Times {
    Times {
        accepted_ms: batch.now_ms,
        expires_ms: batch.now_ms.saturating_add(GROUP_INFO_REQUEST_TTL_MS),
    }
}

/// Answers the follower `peer`, in an envelope of its own. Membership alone decides: no agreement's
/// scope may keep a member from what its room's hub has ordered.
pub(super) async fn take_request(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    request: &GroupInfoRequest,
) -> Result<(), NotTaken> {
    let Sender { account, device } = request.requester;
    let member = Member {
        server: peer.clone(),
        account,
        device,
    };
    let result = settle(answer(batch, request.room, &member).await)?;
    if let Err(refusal) = &result {
        let (code, detail) = (refusal.code, refusal.to_string());
        batch.audit_refusal(peer, "group-info.refused", request.room, code, detail);
        batch.note_refused_answer();
    }
    let is_given = result.is_ok();
    let response = Payload::GroupInfo(GroupInfoResponse {
        request: request.request,
        room: request.room,
        device,
        result: result.map(|info| WireGroupInfo {
            epoch: info.epoch,
            group_info: info.group_info,
        }),
    });
    let times = times(batch);
    batch
        .send(peer, Some(request.room), &response, times, None)
        .await?;
    match is_given {
        true => step::server_asked(batch, request.room, peer).await,
        false => Ok(()),
    }
}

/// Hands a hub's answer to the device that has asked.
pub(super) async fn take_response(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    response: GroupInfoResponse,
) -> Result<(), NotTaken> {
    let GroupInfoResponse {
        request,
        room,
        device,
        result,
    } = response;
    let found = key_request::get(&batch.node.store, device, request).await?;
    let now_ms = batch.now_ms;
    let asked = found
        .filter(|(asked, _)| {
            asked.server == *peer && asked.of == Asked::GroupInfo(room) && asked.expires_ms > now_ms
        })
        .map(|(_, read)| read);
    let Some(read) = asked else {
        return Err(not_asked());
    };
    let result = match result {
        Ok(WireGroupInfo { epoch, group_info }) => {
            let frame = mls_framing::group_info(&group_info).map_err(malformed)?;
            if (frame.room, frame.epoch) != (room, epoch) {
                return Err(malformed("the group info is of another room or epoch"));
            }
            step::catch_up(batch, peer, room, (epoch, group_info.as_ref())).await?;
            Ok(GroupInfo { epoch, group_info })
        }
        Err(refusal) => {
            if refusal.code == RefusalCode::UnknownRoom {
                step::not_listed(batch, peer, room, device).await?;
            }
            Err(said_by(peer, &refusal))
        }
    };
    // An answer to the same request, earlier in this part?
    if !batch.take(key_request::key(device, request)) {
        return Err(not_asked());
    }
    key_request::take(&mut batch.part, device, request, read);
    hand_over(batch, device, request, room, result).await
}

/// Puts an answer into the inbox of the device that has asked.
async fn hand_over(
    batch: &mut Batch<'_>,
    device: DeviceId,
    request: RequestId,
    room: RoomId,
    result: Result<GroupInfo, Refusal>,
) -> Result<(), NotTaken> {
    let body = InboxBody::GroupInfo {
        request,
        room,
        result,
    };
    append_if_room(batch, device, body).await
}

#[cfg(test)]
mod tests {
    use federation_proto::ids::AccountId;

    use super::*;

    fn member(server: &str, device: u8) -> Member {
        Member {
            server: server.parse().unwrap(),
            account: AccountId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([device; 16]),
        }
    }

    /// Goal: a device has its share and no more until the time is over; its neighbour's is untouched, and a
    /// peer's devices have one together. Method: count up to each limit.
    #[test]
    fn shares() {
        let rates = Rates::of_group_infos();
        let own: ServerName = "a.example".parse().unwrap();
        let (one, other) = (member("b.example", 1), member("b.example", 2));
        for _ in 0..GROUP_INFO_DEVICE_REQUESTS_MAX {
            assert!(rates.take(&one, &own, 5));
        }
        assert!(!rates.take(&one, &own, 5));
        assert!(rates.take(&other, &own, 5));
        assert!(rates.take(&one, &own, 5 + GROUP_INFO_REQUESTS_MS));

        let mut taken = 0;
        for device in 0..=u8::MAX {
            for _ in 0..GROUP_INFO_DEVICE_REQUESTS_MAX {
                taken += u32::from(rates.take(&member("c.example", device), &own, 5));
            }
        }
        assert_eq!(taken, GROUP_INFO_PEER_REQUESTS_MAX);
        assert!(rates.take(&member("a.example", 1), &own, 5));
    }
}
