//! Hints on their way: datagrams that may be lost, come late or twice, or come from somebody else.
//!
//! The process (16 bytes) and the number of the hint (8, big-endian), then the notices, sealed.

use federation_proto::limits::SERVER_NAME_BYTES_MAX;

use super::{Cluster, Secret};
use crate::store::node_row::Incarnation;
use crate::store::notice::Notice;

/// Largest datagram: one that fits through any path as one packet.
pub const DATAGRAM_BYTES_MAX: usize = 1200;
const HEAD_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// For the notices of one datagram, less what says how many there are.
const NOTICES_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEAD_BYTES - TAG_BYTES - 4;
// A notice of the longest server name fits.
const _: () = assert!(NOTICES_BYTES_MAX > SERVER_NAME_BYTES_MAX + 32);

impl Cluster {
    /// Waits until there is something to tell the other nodes at once, and packs it into datagrams.
    pub async fn to_send(&self, secret: &Secret) -> Vec<Vec<u8>> {
        let Some(member) = &self.member else {
            return std::future::pending().await;
        };
        loop {
            let notices = member.lock().unsent.take();
            if notices.is_empty() {
                member.unsent.notified().await;
                continue;
            }
            let packed = pack(notices);
            let before = {
                let mut state = member.lock();
                let before = state.hints;
                let count = u64::try_from(packed.len()).unwrap_or(u64::MAX);
                state.hints = before.saturating_add(count);
                before
            };
            let numbers = before.saturating_add(1)..;
            let numbered = numbers.zip(&packed);
            return numbered
                .filter_map(|(number, notices)| {
                    datagram(secret, member.incarnation, number, notices)
                })
                .collect();
        }
    }

    /// The notices in a datagram of another node; none in one that was not sealed by a node that is known here, or that came
    /// out of turn.
    pub fn received(&self, secret: &Secret, datagram: &[u8]) -> Vec<Notice> {
        self.opened(secret, datagram).unwrap_or_default()
    }

    fn opened(&self, secret: &Secret, datagram: &[u8]) -> Option<Vec<Notice>> {
        let member = self.member.as_ref()?;
        let (of, rest) = datagram.split_first_chunk::<16>()?;
        let (number, sealed) = rest.split_first_chunk::<8>()?;
        let (of, number) = (Incarnation(*of), u64::from_be_bytes(*number));
        let is_known = |state: &super::State| {
            let mut others = state.others.values();
            others.any(|other| other.record.incarnation == of)
                && state.hints_of.get(&of).is_none_or(|last| *last < number)
        };
        // Before anything is decrypted: strangers may send as they like.
        if !is_known(&member.lock()) {
            return None;
        }
        let plain = secret.open_hint(of, number, sealed).ok()?;
        let notices = postcard::from_bytes(&plain).ok()?;
        member.lock().hints_of.insert(of, number);
        Some(notices)
    }
}

fn datagram(secret: &Secret, by: Incarnation, number: u64, notices: &[Notice]) -> Option<Vec<u8>> {
    let plain = postcard::to_stdvec(notices).ok()?;
    let sealed = secret.seal_hint(by, number, &plain).ok()?;
    Some([&by.0[..], &number.to_be_bytes(), &sealed].concat())
}

/// The notices, as many together as fit into a datagram.
fn pack(notices: Vec<Notice>) -> Vec<Vec<Notice>> {
    let mut packed: Vec<Vec<Notice>> = Vec::new();
    let mut room = 0;
    for notice in notices {
        let bytes = postcard::to_stdvec(&notice).map_or(NOTICES_BYTES_MAX, |bytes| bytes.len());
        match packed.last_mut() {
            Some(last) if bytes <= room => last.push(notice),
            _ => {
                packed.push(vec![notice]);
                room = NOTICES_BYTES_MAX;
            }
        }
        room = room.saturating_sub(bytes);
    }
    packed
}
