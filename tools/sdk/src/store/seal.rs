//! How names and values are hidden: names are HMACs, every value has an AEAD key of its own.
//!
//! A value's key is HMAC(master, salt) with a random salt, so each key seals one value and the
//! nonce can stay zero. The salt stands in the value itself, or, for what must become unreadable,
//! in a slot of the file of record salts. The database's key is authenticated with the value: no
//! two records can be exchanged.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use zeroize::Zeroizing;

use super::family::{Family, KEY_BYTES, Key};
use super::slots::{SALT_BYTES, Salt};
use super::unlock::MasterKey;
use crate::error::Error;

const VERSION: u8 = 1;
const SALT_INSIDE: u8 = 0;
const SALT_IN_SLOT: u8 = 1;

/// Where a value's salt is.
pub(super) enum SaltPlace {
    Inside,
    Slot(u32),
}

/// The keys derived from the master key.
#[derive(Clone)]
pub(super) struct Sealer {
    names: hmac::Key,
    values: hmac::Key,
}

impl Sealer {
    pub(super) fn new(master: &MasterKey) -> Self {
        let derive = |label: &[u8]| {
            let master = hmac::Key::new(hmac::HMAC_SHA256, master.as_ref());
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&master, label).as_ref())
        };
        Self {
            names: derive(b"entente sdk store names 1"),
            values: derive(b"entente sdk store values 1"),
        }
    }

    /// The database's key of a record: 16 bytes that reveal neither family nor scope, then its
    /// number, so that a scope's records lie together and in order.
    pub(super) fn key(&self, family: Family, scope: &[u8], number: u64) -> Key {
        let mut context = hmac::Context::with_key(&self.names);
        context.update(&[family.number()]);
        context.update(scope);
        let tag = context.sign();
        let mut key = [0; KEY_BYTES];
        for (to, from) in key
            .iter_mut()
            .zip(tag.as_ref().iter().take(16).chain(&number.to_be_bytes()))
        {
            *to = *from;
        }
        Key(key)
    }

    /// Seals a value under the key of `salt`.
    pub(super) fn seal(
        &self,
        key: &Key,
        salt: &Salt,
        place: &SaltPlace,
        value: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut sealed = Vec::with_capacity(value.len() + 64);
        sealed.push(VERSION);
        match place {
            SaltPlace::Inside => {
                sealed.push(SALT_INSIDE);
                sealed.extend_from_slice(salt.as_ref());
            }
            SaltPlace::Slot(slot) => {
                sealed.push(SALT_IN_SLOT);
                sealed.extend_from_slice(&slot.to_be_bytes());
            }
        }
        let mut body = value.to_vec();
        self.value_key(salt)?
            .seal_in_place_append_tag(zero_nonce(), Aad::from(key.0), &mut body)
            .map_err(|_| Error::Store("a record can't be sealed".to_owned()))?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens a value; `read` gets a salt out of its slot.
    pub(super) fn open(
        &self,
        key: &Key,
        sealed: &[u8],
        read: impl FnOnce(u32) -> Result<Salt, Error>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (place, rest) = place(sealed)?;
        let (salt, body) = match place {
            SaltPlace::Inside => {
                let (salt, body) = rest.split_first_chunk::<SALT_BYTES>().ok_or_else(damaged)?;
                (Zeroizing::new(*salt), body)
            }
            SaltPlace::Slot(slot) => (read(slot)?, rest),
        };
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .value_key(&salt)?
            .open_in_place(zero_nonce(), Aad::from(key.0), &mut body)
            .map_err(|_| damaged())?
            .len();
        body.truncate(length);
        Ok(body)
    }

    fn value_key(&self, salt: &Salt) -> Result<LessSafeKey, Error> {
        let tag = hmac::sign(&self.values, salt.as_ref());
        UnboundKey::new(&AES_256_GCM, tag.as_ref())
            .map(LessSafeKey::new)
            .map_err(|_| Error::Store("a record's key has the wrong length".to_owned()))
    }
}

/// The slot that a sealed value names, when it names one.
pub(super) fn slot(sealed: &[u8]) -> Result<Option<u32>, Error> {
    match place(sealed)?.0 {
        SaltPlace::Inside => Ok(None),
        SaltPlace::Slot(slot) => Ok(Some(slot)),
    }
}

fn place(sealed: &[u8]) -> Result<(SaltPlace, &[u8]), Error> {
    match sealed {
        [VERSION, SALT_INSIDE, rest @ ..] => Ok((SaltPlace::Inside, rest)),
        [VERSION, SALT_IN_SLOT, a, b, c, d, rest @ ..] => {
            let slot = u32::from_be_bytes([*a, *b, *c, *d]);
            Ok((SaltPlace::Slot(slot), rest))
        }
        _ => Err(damaged()),
    }
}

fn damaged() -> Error {
    Error::Store("a record is damaged".to_owned())
}

/// Each key seals one value, so one nonce is enough.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}
