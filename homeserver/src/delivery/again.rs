//! Mail that has waited is judged again before it is sent: agreements, user types and their people may have
//! changed since it was accepted.
//!
//! Deliberately absent: the sender's suspension. What somebody sent before it was accepted then.

use std::collections::HashMap;
use std::sync::Arc;

use federation_proto::envelope::Kind;
use federation_proto::ids::AccountId;
use federation_proto::payload::{ContactAct, Payload};
use federation_proto::refusal::Refusal;
use homeserver_api::admin::Operation;
use homeserver_api::attributes::MessageAttributes;

use super::outbox::OutboxItem;
use crate::federation::peers::PeerView;
use crate::identity::LocalAccount;
use crate::node::Node;
use crate::policy::{self, Direction, Input, Rules};
use crate::rooms::mls_framing;
use crate::store::{StoreError, policy_serial};

/// Judges what waits for one peer.
pub struct Again<'a> {
    node: &'a Node,
    peer: &'a PeerView,
    now_ms: u64,
    policy_serial: u64,
    accounts: HashMap<AccountId, Option<Arc<LocalAccount>>>,
}

impl<'a> Again<'a> {
    /// Judges by what holds now.
    pub async fn open(node: &'a Node, peer: &'a PeerView, now_ms: u64) -> Result<Self, StoreError> {
        let serial = policy_serial::get(&node.store).await?;
        Ok(Self {
            node,
            peer,
            now_ms,
            policy_serial: policy_serial::number(serial.as_ref())?,
            accounts: HashMap::new(),
        })
    }

    /// Whether `item` may still go. Handshakes and answers always do: without them rooms break.
    pub async fn judge(&mut self, item: &OutboxItem) -> Result<Result<(), Refusal>, StoreError> {
        let Some(input) = input(item) else {
            return Ok(Ok(()));
        };
        let sender = match &item.sender {
            Some(sender) => self.account(sender.account).await?,
            None => None,
        };
        let Some(sender) = sender else {
            return Ok(self.judge_without_sender(&input));
        };
        let mut party = sender.party();
        party.suspended = false;
        let rules = Rules {
            party,
            links: &[self.peer.link()],
            now_ms: self.now_ms,
        };
        Ok(policy::evaluate(&rules, &input).into_result())
    }

    /// Somebody of another organisation has sent it, or somebody who is gone: the agreement alone decides.
    fn judge_without_sender(&self, input: &Input) -> Result<(), Refusal> {
        let (peer, now_ms) = (self.peer, self.now_ms);
        let judge = |operation| peer.judge(Direction::Outbound, operation, None, now_ms);
        match input {
            Input::Send(attributes) => {
                peer.judge_passing(Direction::Outbound, attributes, self.now_ms)
            }
            Input::LookUp => judge(Operation::Directory),
            _ => judge(Operation::Invite),
        }
    }

    async fn account(&mut self, id: AccountId) -> Result<Option<Arc<LocalAccount>>, StoreError> {
        if let Some(known) = self.accounts.get(&id) {
            return Ok(known.clone());
        }
        let (node, serial) = (self.node, self.policy_serial);
        let account = match node.accounts.get(&node.store, id, serial).await {
            Ok(account) => account,
            // One damaged record must not hold up everybody's mail.
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(%error, account = %id, "its mail is judged by the agreement alone");
                None
            }
            Err(error) => return Err(error),
        };
        self.accounts.insert(id, account.clone());
        Ok(account)
    }
}

/// What an item asks policy for; `None`: it always goes, or nobody can tell.
fn input(item: &OutboxItem) -> Option<Input> {
    match item.kind {
        Kind::Message | Kind::Relay => Some(Input::Send(attributes(item)?)),
        Kind::KeyRequest => Some(Input::Invite),
        Kind::DirectoryQuery => Some(Input::LookUp),
        Kind::Contact => match payload(item)? {
            Payload::Contact(contact) if contact.act == ContactAct::Ask => Some(Input::Invite),
            _ => None,
        },
        _ => None,
    }
}

fn payload(item: &OutboxItem) -> Option<Payload> {
    Payload::decode(item.kind, item.payload.clone()).ok()
}

/// What a message says of itself. It was read when it was accepted, so that it reads again.
fn attributes(item: &OutboxItem) -> Option<MessageAttributes> {
    let message = match payload(item)? {
        Payload::Message(message) => message,
        Payload::Relay(relay) => super::envelope::relayed_message(&relay)?,
        _ => return None,
    };
    let frame = mls_framing::application(&message.message).ok()?;
    Some(frame.attributes)
}
