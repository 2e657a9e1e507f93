//! What an account takes up of its homeserver, for administrators.

use federation_proto::ids::AccountId;
use homeserver_api::admin::{AccountUsage, Amount};

use crate::delivery::inbox;
use crate::delivery::mailboxes::Class;
use crate::node::Node;
use crate::store::file::{self, Whose};
use crate::store::{StoreError, device, tally};

/// What an account takes up, and may.
pub(super) async fn of(node: &Node, account: AccountId) -> Result<AccountUsage, StoreError> {
    let limits = &node.config.limits;
    let mut fullest = Amount::default();
    for (device, _) in device::of_account(&node.store, account).await? {
        let (waits, _) = inbox::fill(node, device).await?.of(Class::Message, None);
        if (waits.bytes, waits.items) > (fullest.bytes, fullest.messages) {
            fullest = Amount {
                messages: waits.items,
                bytes: waits.bytes,
            };
        }
    }
    let sent = tally::get(&node.store, &tally::sent(account)).await?;
    let (file_bytes, _) = file::usage(&node.store, &Whose::Account(account)).await?;
    Ok(AccountUsage {
        inbox: fullest,
        inbox_max: Amount {
            messages: limits.inbox_messages_max,
            bytes: limits.inbox_bytes_max,
        },
        outbox: Amount {
            messages: sent.entries,
            bytes: sent.bytes,
        },
        outbox_max: Amount {
            messages: limits.account_outbox_messages_max,
            bytes: limits.account_outbox_bytes_max,
        },
        file_bytes,
        file_bytes_max: limits.account_file_bytes_max,
    })
}
