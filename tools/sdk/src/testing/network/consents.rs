//! Consents to rooms, as each organisation's rules and agreements have them.

use bytes::Bytes;
use homeserver_api::IssuingKey;
use homeserver_api::codec::Wire as _;
use homeserver_api::ids::{RoomId, ServerName};
use homeserver_api::refusal::{Refusal, RefusalCode};
use homeserver_api::room_consent::SignedRoomConsent;
use ring::rand::SystemRandom;
use room_rules::consents::Consents;
use room_rules::testing::widest_consent;

use super::Network;
use crate::clock::Clock as _;

/// An issuing CA's certificate, and its private key (PKCS#8).
pub(super) type Issuing = (Vec<u8>, Vec<u8>);

impl Network {
    /// An organisation's answer to whoever asks for its consent.
    pub(super) fn consent(
        &mut self,
        server: &ServerName,
        room: RoomId,
        domains: &[ServerName],
    ) -> Result<Bytes, Refusal> {
        self.consents_asked += 1;
        let stranger = domains.iter().find(|other| {
            let both = |(one, two): &(ServerName, ServerName)| {
                (one, two) == (server, *other) || (two, one) == (server, *other)
            };
            self.no_peers.iter().any(both)
        });
        if let Some(other) = stranger {
            let reason = format!("{server} and {other} have no agreement");
            return Err(Refusal::new(RefusalCode::NotFullMesh, reason));
        }
        Ok(self.signed_consent(server, room, domains))
    }

    /// The consents of these organisations to a room with all of them.
    pub(crate) fn consents_of(&self, room: RoomId, names: &[&str]) -> Consents {
        let domains: Vec<ServerName> = names.iter().map(|name| name.parse().unwrap()).collect();
        let signed = domains.iter().map(|server| {
            let bytes = self.signed_consent(server, room, &domains);
            let consent = SignedRoomConsent::from_bytes(bytes).unwrap();
            (server.clone(), consent)
        });
        signed.collect()
    }

    /// What an organisation signs, whomever it has agreements with.
    pub(crate) fn signed_consent(
        &self,
        server: &ServerName,
        room: RoomId,
        domains: &[ServerName],
    ) -> Bytes {
        let now_ms = self.clock.now_ms();
        let domains = domains.iter().cloned().collect();
        let mut consent = widest_consent(room, server, domains, now_ms);
        if let Some(rules) = self.rules.get(server) {
            rules(&mut consent);
        }
        let random = SystemRandom::new();
        let by = self.forged_by.as_ref().unwrap_or(server);
        let (certificate, key) = &self.issuing[by];
        let key = IssuingKey::from_pkcs8(key, &random).unwrap();
        let signed = consent.sign(certificate.clone().into(), &key, &random);
        signed.unwrap().to_bytes().unwrap()
    }
}
