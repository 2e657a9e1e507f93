//! Questions about an account's devices, and their answers: key packages to add them with, and the history that
//! proves them. At home the answer comes at once, from a partner as an envelope of its own.

use federation_proto::codec::Wire as _;
use federation_proto::ids::{AccountId, Address, RequestId, RoomId, ServerName};
use federation_proto::limits::LOG_SIZES_KNOWN_MAX;
use federation_proto::payload::{
    self, ClaimedKey, KeyRequest, KeyResponse, KeysOf, Payload, Sender,
};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::admin::Operation;
use homeserver_api::session::{ClaimedDevice, KeyMaterial};

use super::batch::{Batch, NotTaken, Times, settle};
use super::dead_letters::said_by;
use super::envelope::{append_if_room, granted, malformed, not_asked};
use super::limits::KEY_REQUEST_TTL_MS;
use super::submit::Submitter;
use super::{contacts, inbox, log_heads};
use crate::identity::device_log::Reader;
use crate::identity::key_packages::{self, Claimant};
use crate::policy::{Input, told_abroad};
use crate::store::contacts::Outsider;
use crate::store::inbox::InboxBody;
use crate::store::key_request::{self, Asked, KeyRequestRecord};
use crate::store::{StoreError, account};

/// A device asks for key packages of an account.
pub(super) async fn claim(
    submitter: &Submitter<'_>,
    batch: &mut Batch<'_>,
    counter: u64,
    request: RequestId,
    (address, known): (&Address, &[u64]),
) -> Result<(), NotTaken> {
    check_sizes(known)?;
    submitter.evaluate(batch, [&address.server], &Input::Invite)?;
    if address.server == batch.node.server {
        let claimant = Claimant::Own(submitter.device.account, submitter.device.device);
        let claimed = key_packages::claim(batch, claimant, &address.handle).await;
        let result = match settle(claimed)? {
            Ok((account, devices)) => {
                Ok(material(batch, Reader::Own, account, devices, known).await?)
            }
            Err(refusal) => Err(refusal),
        };
        let body = InboxBody::KeyMaterial { request, result };
        return Ok(inbox::append(batch, submitter.device.device, body).await?);
    }
    // Before the request, in the same lane: so it finds consent there.
    contacts::starts(batch, submitter.device, submitter.account, address).await?;
    let of = KeysOf::Handle(address.handle.clone());
    ask(
        submitter,
        batch,
        counter,
        request,
        (&address.server, of, known),
    )
    .await
}

/// A device asks for the history of an account's devices.
pub(super) async fn ask_devices(
    submitter: &Submitter<'_>,
    batch: &mut Batch<'_>,
    counter: u64,
    request: RequestId,
    (server, account, known): (&ServerName, AccountId, &[u64]),
) -> Result<(), NotTaken> {
    check_sizes(known)?;
    if *server == batch.node.server {
        let result = match history(batch, Reader::Own, account, known).await? {
            Some(history) => Ok(KeyMaterial {
                devices: Vec::new(),
                history: encoded(&history)?,
            }),
            None => Err(unknown_account()),
        };
        let body = InboxBody::KeyMaterial { request, result };
        return Ok(inbox::append(batch, submitter.device.device, body).await?);
    }
    if batch.peer(server).is_none() {
        return Err(NotTaken::refused(
            RefusalCode::NoAgreement,
            format!("there is no agreement with {server}"),
        ));
    }
    let of = KeysOf::Account(account);
    ask(submitter, batch, counter, request, (server, of, known)).await
}

async fn ask(
    submitter: &Submitter<'_>,
    batch: &mut Batch<'_>,
    counter: u64,
    request: RequestId,
    (server, of, known): (&ServerName, KeysOf, &[u64]),
) -> Result<(), NotTaken> {
    // What the peer has told us, it is held to as well.
    let mut known = known.to_vec();
    if let Some((told, _)) = crate::store::log_heads::known(&batch.node.store, server).await? {
        for head in std::iter::once(&told.head).chain(&told.heard) {
            let size = head.claims().size;
            if known.len() < LOG_SIZES_KNOWN_MAX
                && let Err(place) = known.binary_search(&size)
            {
                known.insert(place, size);
            }
        }
    }
    let named = known.clone();
    let payload = Payload::KeyRequest(KeyRequest {
        request,
        requester: Sender {
            account: submitter.device.account,
            device: submitter.device.device,
        },
        requester_handle: submitter.account.handle.clone(),
        of,
        known,
    });
    let times = Times {
        accepted_ms: batch.now_ms,
        expires_ms: batch.now_ms.saturating_add(KEY_REQUEST_TTL_MS),
    };
    let open = KeyRequestRecord {
        server: server.clone(),
        of: Asked::Keys,
        named,
        // The request may travel that long, and then its answer.
        expires_ms: times.expires_ms.saturating_add(KEY_REQUEST_TTL_MS),
    };
    key_request::put(&mut batch.part, submitter.device.device, request, &open)?;
    // A request is of no room; its sender is found by the request's id.
    let sender = submitter.sender_ref(RoomId::from_bytes([0; 16]), counter);
    batch
        .send(server, None, &payload, times, Some(sender))
        .await
}

/// A peer asks. What it asks for is handed out, or not, in an answer of its own: no call waits for a peer.
pub(super) async fn take_request(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    request: &KeyRequest,
) -> Result<(), NotTaken> {
    let reader = Reader::Peer(peer);
    let result = match &request.of {
        KeysOf::Handle(handle) => {
            granted(batch, peer, Operation::Invite)?;
            let claimant = Claimant::Peer(Outsider {
                server: peer,
                account: request.requester.account,
                handle: Some(&request.requester_handle),
            });
            let claimed = key_packages::claim(batch, claimant, handle).await;
            match settle(claimed)? {
                Ok((account, devices)) => {
                    Ok(material(batch, reader, account, devices, &request.known).await?)
                }
                // Whole, as what stands for people in the log is found by.
                Err(refusal) => Err((format!("{handle}@{}", batch.node.server), refusal)),
            }
        }
        // Who knows the opaque id has met the account, and holds it to its history.
        KeysOf::Account(account) => match history(batch, reader, *account, &request.known).await? {
            Some(history) => Ok(KeyMaterial {
                devices: Vec::new(),
                history: encoded(&history)?,
            }),
            None => Err((account.to_string(), unknown_account())),
        },
    };
    let result = match result {
        Ok(found) => Ok(payload::KeyMaterial {
            keys: found
                .devices
                .into_iter()
                .map(|device| ClaimedKey {
                    member: device.member,
                    key_package: device.key_package,
                })
                .collect(),
            history: decoded(found.history)?,
        }),
        Err((of, refusal)) => {
            let (code, detail) = (refusal.code, refusal.to_string());
            batch.audit_refusal(peer, "keys.refused", of, code, detail);
            batch.note_refused_answer();
            Err(told_abroad(refusal))
        }
    };
    let response = Payload::KeyResponse(KeyResponse {
        request: request.request,
        device: request.requester.device,
        result,
    });
    let times = Times {
        accepted_ms: batch.now_ms,
        expires_ms: batch.now_ms.saturating_add(KEY_REQUEST_TTL_MS),
    };
    batch.send(peer, None, &response, times, None).await
}

/// A peer answers. The device judges what it says; only the log's head is held to what is known here.
pub(super) async fn take_response(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    response: KeyResponse,
) -> Result<(), NotTaken> {
    let found = key_request::get(&batch.node.store, response.device, response.request).await?;
    let now_ms = batch.now_ms;
    let asked = found.filter(|(asked, _)| {
        asked.server == *peer && asked.of == Asked::Keys && asked.expires_ms > now_ms
    });
    let Some((asked, read)) = asked else {
        return Err(not_asked());
    };
    let result = match response.result {
        Ok(material) => {
            let of_others = |key: &ClaimedKey| key.member.server != *peer;
            if material.keys.iter().any(of_others) {
                return Err(malformed("a server hands out its own people's keys only"));
            }
            let shown = (&material.history.head, &material.history.growth[..]);
            log_heads::check(batch, peer, shown, &asked.named).await?;
            let devices = material.keys.into_iter().map(|key| ClaimedDevice {
                member: key.member,
                key_package: key.key_package,
            });
            Ok(KeyMaterial {
                devices: devices.collect(),
                history: encoded(&material.history)?,
            })
        }
        Err(refusal) => Err(said_by(peer, &refusal)),
    };
    // An answer to the same request, earlier in this part?
    let key = key_request::key(response.device, response.request);
    if !batch.take(key) {
        return Err(not_asked());
    }
    key_request::take(&mut batch.part, response.device, response.request, read);
    let body = InboxBody::KeyMaterial {
        request: response.request,
        result,
    };
    append_if_room(batch, response.device, body).await
}

async fn material(
    batch: &Batch<'_>,
    reader: Reader<'_>,
    account: AccountId,
    devices: Vec<ClaimedDevice>,
    known: &[u64],
) -> Result<KeyMaterial, StoreError> {
    let history = history(batch, reader, account, known).await?;
    let history = history.ok_or(StoreError::Corrupt {
        family: "device log",
    })?;
    Ok(KeyMaterial {
        devices,
        history: encoded(&history)?,
    })
}

async fn history(
    batch: &Batch<'_>,
    reader: Reader<'_>,
    account: AccountId,
    known: &[u64],
) -> Result<Option<federation_proto::device_log::DeviceHistory>, StoreError> {
    // A deleted account's devices are nobody's business any more.
    if account::get(&batch.node.store, account).await?.is_none() {
        return Ok(None);
    }
    let log = &batch.node.device_log;
    log.history(batch.node, reader, account, known).await
}

fn encoded(
    history: &federation_proto::device_log::DeviceHistory,
) -> Result<bytes::Bytes, StoreError> {
    history.to_bytes().map_err(|_| StoreError::Corrupt {
        family: "device log",
    })
}

fn decoded(
    history: bytes::Bytes,
) -> Result<federation_proto::device_log::DeviceHistory, StoreError> {
    federation_proto::device_log::DeviceHistory::from_bytes(history).map_err(|_| {
        StoreError::Corrupt {
            family: "device log",
        }
    })
}

fn check_sizes(known: &[u64]) -> Result<(), NotTaken> {
    if known.len() <= LOG_SIZES_KNOWN_MAX && known.is_sorted_by(|left, right| left < right) {
        Ok(())
    } else {
        Err(malformed(format!(
            "name up to {LOG_SIZES_KNOWN_MAX} known sizes of the device log, ascending"
        )))
    }
}

fn unknown_account() -> Refusal {
    Refusal::new(
        RefusalCode::UnknownRecipient,
        "there is no such account, or it has never had a device",
    )
}
