//! That a room continues another one, whose hub is gone for good.
//!
//! It is a statement, and no more: it changes nothing in the former room, and brings nobody into the new one. Its maker signs it
//! with his device's key; with a secret that only members of the former room's epoch have he shows that he was one of
//! them. The new room's settings carry it from the beginning, unchanged, so that everybody in the room reads the same.

use bytes::Bytes;
use federation_proto::codec::{DecodeError, EncodeError, Reader, Wire, Writer};
use federation_proto::ids::{AccountId, DeviceId, Member, RoomId};
use federation_proto::limits::{SERVER_NAME_BYTES_MAX, SIGNATURE_LABEL_BYTES_MAX};
use ring::hmac;
use ring::signature::{ED25519, UnparsedPublicKey};

/// Label of what a device's key signs.
const LABEL: &[u8] = b"entente successor room";
/// What the former room's members export from their epoch (RFC 9420, section 8.5), without a context.
pub const EXPORTER_LABEL: &[u8] = b"entente successor";
/// Bytes of that.
pub const SECRET_BYTES: usize = 32;

/// A room continues another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// The former room.
    pub room: RoomId,
    /// The epoch in which its maker was in it.
    pub epoch: u64,
    /// What only members of that epoch can make for the new room; see [`authenticator`].
    pub authenticator: [u8; 32],
    /// The device that says so.
    pub by: Member,
    /// Its signature.
    pub signature: [u8; 64],
}

/// What a member of the former room's epoch makes of its secret for the new room.
#[must_use]
pub fn authenticator(secret: &[u8; SECRET_BYTES], new: RoomId) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, new.as_bytes());
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    bytes
}

impl Continuation {
    /// What its maker signs, for the room `new`.
    ///
    /// # Errors
    /// When a part is over its limit.
    pub fn signed_bytes(&self, new: RoomId) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::with_capacity(256);
        writer.opaque8("label", SIGNATURE_LABEL_BYTES_MAX, LABEL);
        writer.fixed(new.as_bytes());
        self.write_body(&mut writer);
        writer.finish()
    }

    /// Whether the device with this key has said so of the room `new`.
    #[must_use]
    pub fn is_signed(&self, new: RoomId, key: &[u8; 32]) -> bool {
        self.signed_bytes(new).is_ok_and(|bytes| {
            let key = UnparsedPublicKey::new(&ED25519, key);
            key.verify(&bytes, &self.signature).is_ok()
        })
    }

    /// Whether its maker knew the secret of the former room's epoch.
    #[must_use]
    pub fn is_of_epoch(&self, new: RoomId, secret: &[u8; SECRET_BYTES]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::verify(&key, new.as_bytes(), &self.authenticator).is_ok()
    }

    fn write_body(&self, writer: &mut Writer) {
        writer.fixed(self.room.as_bytes());
        writer.u64(self.epoch);
        writer.fixed(&self.authenticator);
        writer.server_name(&self.by.server);
        writer.fixed(self.by.account.as_bytes());
        writer.fixed(self.by.device.as_bytes());
    }
}

impl Wire for Continuation {
    const BYTES_MAX: usize = 16 + 8 + 32 + 1 + SERVER_NAME_BYTES_MAX + 2 * 16 + 64;
    const NAME: &'static str = "continuation";

    fn write(&self, writer: &mut Writer) {
        self.write_body(writer);
        writer.fixed(&self.signature);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            room: reader.fixed("former room").map(RoomId::from_bytes)?,
            epoch: reader.u64("epoch")?,
            authenticator: reader.fixed("authenticator")?,
            by: Member {
                server: reader.server_name("server")?,
                account: reader.fixed("account").map(AccountId::from_bytes)?,
                device: reader.fixed("device").map(DeviceId::from_bytes)?,
            },
            signature: reader.fixed("signature")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    /// Goal: a continuation has one encoding, holds for one room, one maker and one epoch's secret, and for nothing else.
    /// Method: one, every cut of it, every bit of it turned, another room, key and secret.
    #[test]
    fn for_one_room_alone() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let (new, other) = (RoomId::from_bytes([1; 16]), RoomId::from_bytes([2; 16]));
        let secret = [9; SECRET_BYTES];
        let mut made = Continuation {
            room: RoomId::from_bytes([3; 16]),
            epoch: 5,
            authenticator: authenticator(&secret, new),
            by: Member {
                server: "b.example".parse().unwrap(),
                account: AccountId::from_bytes([4; 16]),
                device: DeviceId::from_bytes([5; 16]),
            },
            signature: [0; 64],
        };
        let signature = pair.sign(&made.signed_bytes(new).unwrap());
        made.signature = signature.as_ref().try_into().unwrap();
        assert!(made.is_signed(new, &key) && made.is_of_epoch(new, &secret));
        assert!(!made.is_signed(other, &key) && !made.is_of_epoch(other, &secret));
        assert!(!made.is_signed(new, &[7; 32]) && !made.is_of_epoch(new, &[8; 32]));
        let bytes = made.to_bytes().unwrap();
        assert_eq!(Continuation::from_bytes(bytes.clone()).unwrap(), made);
        for end in 0..bytes.len() {
            assert!(Continuation::from_bytes(bytes.slice(..end)).is_err());
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            if let Ok(read) = Continuation::from_bytes(changed) {
                assert!(!read.is_signed(new, &key), "byte {at}");
            }
        }
    }
}
