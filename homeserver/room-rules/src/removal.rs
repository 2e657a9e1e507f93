//! The one message from outside a group that is looked at: the hub's proposal to remove a leaf.
//!
//! mls-rs caches whatever proposal is signed by somebody who may propose, and asks the rules only when a commit
//! takes it up. So what is anything but this is put aside here, before it is handed on.

use federation_proto::ids::RoomId;

use crate::error::Error;

/// `ProtocolVersion mls10` and `WireFormat mls_public_message`.
const PUBLIC_MESSAGE: [u8; 4] = [0, 1, 0, 1];
/// `SenderType external`, and the place of the hub among the external senders.
const EXTERNAL: u8 = 2;
const HUB: u32 = 0;
/// `ContentType proposal`.
const PROPOSAL: u8 = 2;
/// `ProposalType remove`.
const REMOVE: u16 = 3;
/// Bytes of a signature of the one suite.
const SIGNATURE_BYTES: usize = 64;
/// Bytes of every such message.
pub const REMOVAL_BYTES: usize = 4 + 17 + 8 + 5 + 2 + 1 + 2 + 4 + 2 + SIGNATURE_BYTES;
/// What the authenticated data say: that device goes, and its account stays in the list.
const DEVICE: u8 = 1;
/// What the authenticated data say: its account goes, with all of its devices.
const ACCOUNT: u8 = 2;

/// What the hub's proposal shows. The signature is MLS's to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// The room.
    pub room: RoomId,
    /// The epoch that it is for.
    pub epoch: u64,
    /// The leaf that is to go.
    pub leaf: u32,
    /// Whether its account goes too: it is taken off the room's list with the last of its leaves.
    pub account: bool,
}

/// The authenticated data of a removal.
pub(crate) fn authenticated_data(account: bool) -> Vec<u8> {
    vec![if account { ACCOUNT } else { DEVICE }]
}

/// Reads the hub's proposal to remove a leaf.
///
/// # Errors
/// When it is anything else.
pub fn read(bytes: &[u8]) -> Result<Removal, Error> {
    let mut rest = bytes;
    let read = (|| {
        let version = take::<4>(&mut rest)?;
        let [group_length] = take(&mut rest)?;
        let room = RoomId::from_bytes(take(&mut rest)?);
        let epoch = u64::from_be_bytes(take(&mut rest)?);
        let [sender] = take(&mut rest)?;
        let place = u32::from_be_bytes(take(&mut rest)?);
        let [data_length, extent, content] = take(&mut rest)?;
        let kind = u16::from_be_bytes(take(&mut rest)?);
        let leaf = u32::from_be_bytes(take(&mut rest)?);
        let signature_length = take::<2>(&mut rest)?;
        take::<SIGNATURE_BYTES>(&mut rest)?;
        let fits = version == PUBLIC_MESSAGE
            && usize::from(group_length) == room.as_bytes().len()
            && (sender, place) == (EXTERNAL, HUB)
            && (data_length, content, kind) == (1, PROPOSAL, REMOVE)
            && matches!(extent, DEVICE | ACCOUNT)
            // A length of two bytes, the shortest form of 64.
            && signature_length == [0x40, 64]
            && rest.is_empty();
        fits.then_some(Removal {
            room,
            epoch,
            leaf,
            account: extent == ACCOUNT,
        })
    })();
    read.ok_or_else(|| Error::Mls("it is no removal by the room's hub".to_owned()))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn honest() -> Vec<u8> {
        [
            &PUBLIC_MESSAGE[..],
            &[16],
            &[9; 16],
            &5_u64.to_be_bytes(),
            &[EXTERNAL, 0, 0, 0, 0],
            &[1],
            &authenticated_data(true),
            &[PROPOSAL],
            &REMOVE.to_be_bytes(),
            &7_u32.to_be_bytes(),
            &[0x40, 64],
            &[3; 64],
        ]
        .concat()
    }

    /// Goal: the hub's removal is read, and nothing else is one: no cut, no extension, no other kind. Method: one
    /// built field by field, its cuts, and each byte but the ids, the epoch and the signature changed.
    #[test]
    fn nothing_else_is_one() {
        let bytes = honest();
        assert_eq!(bytes.len(), REMOVAL_BYTES);
        let read_back = read(&bytes).unwrap();
        assert_eq!((read_back.epoch, read_back.leaf), (5, 7));
        assert!(read_back.account);
        let mut device = bytes.clone();
        device[35] = DEVICE;
        assert!(!read(&device).unwrap().account);
        assert_eq!(read_back.room, RoomId::from_bytes([9; 16]));
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err());
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
        for at in (0..5).chain(29..39).chain(43..45) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(read(&changed).is_err(), "byte {at}");
        }
    }

    proptest! {
        /// Goal: no bytes make the reader panic.
        #[test]
        fn any_bytes(start in 0_usize..120, tail in prop::collection::vec(any::<u8>(), 0..120)) {
            let honest = honest();
            let bytes = [&honest[..start.min(honest.len())], &tail].concat();
            if let Ok(removal) = read(&bytes) {
                prop_assert_eq!(bytes.len(), REMOVAL_BYTES);
                prop_assert_eq!(&bytes[5..21], &removal.room.as_bytes()[..]);
            }
        }
    }
}
