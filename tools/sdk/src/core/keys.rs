//! Key packages and the device's certificate.

use std::time::Duration;

use homeserver_api::ids::RoomId;

use super::records::Standing;
use super::{Core, mls_client};
use crate::certificate::Validity;
use crate::error::Error;
use crate::mls;
use crate::store::Family;

/// A certificate this old is renewed.
const RENEW_AFTER: Duration = Duration::from_secs(20 * 24 * 60 * 60);

impl Core {
    /// Makes key packages for others to claim, as MLS messages.
    pub(crate) fn make_key_packages(
        &mut self,
        count: usize,
        last_resort: bool,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let now = mls::time(self.now_ms());
        self.storage.set_making_last_resort(last_resort);
        let made = (0..count)
            .map(|_| {
                self.mls
                    .generate_key_package_message(
                        mls_rs::ExtensionList::default(),
                        mls_rs::ExtensionList::default(),
                        Some(now),
                    )
                    .and_then(|message| message.to_bytes())
                    .map_err(mls::error)
            })
            .collect();
        self.storage.set_making_last_resort(false);
        made
    }

    /// How many key packages were used up since [`Self::key_packages_refilled`].
    pub(crate) const fn key_packages_used(&self) -> usize {
        self.key_packages_used
    }

    /// The homeserver has enough key packages again.
    pub(crate) const fn key_packages_refilled(&mut self) {
        self.key_packages_used = 0;
    }

    /// Deletes what nobody can need any more, and tries again what was put off.
    pub(crate) fn tidy(&mut self) -> Result<(), Error> {
        self.storage.delete_expired_key_packages()?;
        self.tidy_histories()?;
        let rooms: Vec<RoomId> = self.rooms.keys().copied().collect();
        for room in rooms {
            self.storage.delete_old_epochs(room.as_bytes())?;
            // What waits for a leaf that could not be renewed.
            self.send_queued(room)?;
            let joined = self
                .rooms
                .get(&room)
                .is_some_and(|record| record.standing == Standing::Joined);
            if joined {
                // Whose homeserver did not answer is asked again.
                self.ask_who_they_are(room)?;
                self.put_out(room)?;
            }
        }
        Ok(())
    }

    /// The request for a new certificate, when it is time.
    pub(crate) fn renewal_request(&self) -> Result<Option<Vec<u8>>, Error> {
        let age = u64::try_from(RENEW_AFTER.as_millis()).unwrap_or(u64::MAX);
        if self.now_ms() < self.identity.certified_ms.saturating_add(age) {
            return Ok(None);
        }
        self.identity
            .key
            .certificate_request(&self.identity.address.to_string())
            .map(Some)
    }

    /// Takes over a renewed certificate and begins to show it in every room.
    pub(crate) fn renewed(&mut self, chain: Vec<Vec<u8>>) -> Result<(), Error> {
        let now = self.now_ms();
        let certified = mls::signing_identity(&chain, &self.identity.key)?;
        let device = self
            .identities
            .verify(&certified, Validity::At(now / 1000))?;
        if device.member != self.identity.member {
            return Err(Error::Certificate(
                "the renewed certificate is another device's".to_owned(),
            ));
        }
        let mut identity = self.identity.clone();
        identity.chain = chain;
        identity.not_after_ms = device.not_after.saturating_mul(1000);
        identity.certified_ms = now;
        self.mls = mls_client(&identity, &self.storage, &self.identities, now)?;
        self.store.put(Family::Identity, b"", 0, &identity)?;
        self.identity = identity;
        let rooms: Vec<RoomId> = self
            .rooms
            .values()
            .filter(|record| record.standing == Standing::Joined)
            .map(|record| record.room)
            .collect();
        for room in rooms {
            self.refresh(room)?;
        }
        Ok(())
    }
}
