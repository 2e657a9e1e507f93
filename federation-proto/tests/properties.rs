//! Every decoder: what is encoded decodes to itself, no input makes it panic, and whatever it
//! accepts it encodes to the same bytes again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

#[path = "properties/strategies.rs"]
mod strategies;

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use federation_proto::agreement::{
    Acceptance, AcceptanceBody, AmendmentBody, Charter, CharterBody, CharterMember, Consent,
    ConsentBody, Countersignature, CountersignatureBody, Decided, Declaration, DeclarationBody,
    Endpoint, Grants, Introduction, Offer, OfferBody, Operation, Statement, Terms, TtlBounds,
    UserTypes,
};
use federation_proto::armor;
use federation_proto::audit_log::{SignedAuditHead, SignedSighting};
use federation_proto::codec::{Wire, Writer};
use federation_proto::deprovisioning::SignedEvidence;
use federation_proto::device_log::{DeviceHistory, DeviceStatement, Growth, How, SignedHead};
use federation_proto::envelope::{HashedPayload, Header, Kind, Lane, Outgoing, Suite};
use federation_proto::exchange::ExchangeProof;
use federation_proto::fingerprint::Fingerprint;
use federation_proto::hash::Digest;
use federation_proto::ids::{
    AccountId, Address, ConsortiumId, DeviceId, FileId, Handle, Member, ReportId, RequestId,
    RoomId, ServerName,
};
use federation_proto::keys::{EnvelopeKey, KeyId};
use federation_proto::limits::{
    GROUP_INFO_BYTES_MAX, HANDSHAKE_BYTES_MAX, PAYLOAD_BYTES_MAX, ROOM_CONSENT_MS_MAX,
    WELCOME_BYTES_MAX,
};
use federation_proto::manifest;
use federation_proto::organisation::{OrganisationIdentity, tls_pin};
use federation_proto::payload::{
    About, AbuseReason, AbuseReport, AuditHead, ClaimedKey, Contact, ContactAct, DirectoryAnswer,
    DirectoryQuery, Found, GroupInfo, GroupInfoRequest, GroupInfoResponse, Handshake, KeyMaterial,
    KeyRequest, KeyResponse, KeysOf, LogHead, Message, Notice, Payload, Relay, Removal,
    RemovalRequest, Removals, ReportedMessage, RoomConsentRequest, RoomConsentResponse, Sender,
    Sought, Tombstone, Welcome,
};
use federation_proto::receipt::{self, ItemResult, LaneHead, ReceiptBody};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::room_consent::SignedRoomConsent;
use federation_proto::transaction::{self, EnvelopeProof, Link, RootSignature, sign};
use federation_proto::version::{Version, VersionSet};
use proptest::prelude::*;
use proptest::sample::select;
use strategies::*;

/// 2026-11-22 10:15 UTC, when the golden vectors are valid.
const NOW_MS: u64 = 1_795_342_500_000;

fn golden(name: &str) -> Bytes {
    Bytes::from_static(match name {
        "offer.bin" => include_bytes!("../testdata/offer.bin"),
        "acceptance.bin" => include_bytes!("../testdata/acceptance.bin"),
        "charter.bin" => include_bytes!("../testdata/charter.bin"),
        "a-root.der" => include_bytes!("../testdata/a-root.der"),
        _ => include_bytes!("../testdata/a-issuing.der"),
    })
}

proptest! {
    /// Goal: statements about devices, histories and heads have one encoding each; by writing, reading and
    /// damaging any.
    #[test]
    fn device_logs(history in device_history(), damage in damage()) {
        for statement in &history.statements {
            check_wire(statement, damage.clone());
        }
        check_wire(&history.head, damage.clone());
        check_wire(&history, damage);
    }

    /// Goal: what a history claims is judged without a panic, whatever it is; by judging any.
    #[test]
    fn any_history_is_judged(history in device_history()) {
        let account = history.statements.first().map_or(AccountId::from_bytes([0; 16]), |s| s.account);
        let server = history.head.claims().server.clone();
        let _ = history.verify(&server, account, &golden("a-root.der"), &[], NOW_MS);
        for growth in &history.growth {
            let _ = history.head.claims().follows(history.head.claims(), Some(growth));
        }
    }

    /// Goal: room consents have one encoding, and are judged without a panic; by writing, reading and damaging any.
    #[test]
    fn room_consents(consent in room_consent(), damage in damage()) {
        prop_assert!(consent.verify(&golden("a-root.der"), &[]).is_err());
        check_wire(&consent, damage);
    }

    /// Goal: evidence of deprovisioning has one encoding, and is judged without a panic; by writing, reading and damaging any.
    #[test]
    fn evidence_of_deprovisioning(signed in evidence(), damage in damage()) {
        prop_assert!(signed.verify(&golden("a-root.der"), NOW_MS).is_err());
        for room in &signed.claims().rooms {
            prop_assert_eq!(room.is_done(), room.waiting().next().is_none());
        }
        check_wire(&signed, damage);
    }

    /// Goal: headers have one encoding; by round trip, damage and re-encoding.
    #[test]
    fn headers(value in header(), damage in damage()) {
        check_wire(&value, damage);
    }

    /// Goal: version sets have one encoding; by round trip, damage and re-encoding.
    #[test]
    fn version_sets(versions in prop::collection::vec(any::<u16>(), 1..=8), damage in damage()) {
        check_wire(&VersionSet::new(versions.into_iter().map(Version)).unwrap(), damage);
    }

    /// Goal: proofs have one encoding; by round trip, damage and re-encoding.
    #[test]
    fn proofs(value in proof(), damage in damage()) {
        check_wire(&value, damage);
    }

    /// Goal: payloads of every kind have one encoding, and are not read as another kind's unless
    /// the bytes are that kind's too; by round trip, damage and re-encoding under every kind.
    #[test]
    fn payloads(value in payload(), damage in damage()) {
        let bytes = value.encode().unwrap();
        prop_assert_eq!(&Payload::decode(value.kind(), bytes.clone()).unwrap(), &value);
        let other = damaged(&bytes, damage);
        for kind in Kind::ALL {
            if let Ok(accepted) = Payload::decode(kind, other.clone()) {
                prop_assert_eq!(accepted.kind(), kind);
                prop_assert_eq!(accepted.encode().unwrap(), other.clone());
            }
        }
    }

    /// Goal: transactions have one encoding; by signing, damage and re-encoding.
    #[test]
    fn transactions(
        link in link(),
        envelopes in prop::collection::vec(outgoing(), 1..5),
        damage in damage(),
    ) {
        let key = EnvelopeKey::from_seed(&[1; 32]).unwrap();
        let bytes = sign(&key, &link, &envelopes).unwrap().bytes;
        let decoded = transaction::decode(bytes.clone()).unwrap();
        prop_assert_eq!(decoded.link(), &link);
        prop_assert_eq!(decoded.to_bytes().unwrap(), bytes.clone());
        let other = damaged(&bytes, damage);
        if let Ok(accepted) = transaction::decode(other.clone()) {
            prop_assert_eq!(accepted.to_bytes().unwrap(), other);
        }
    }

    /// Goal: receipts have one encoding; by signing, damage and re-encoding.
    #[test]
    fn receipts(body in receipt_body(), damage in damage()) {
        let key = EnvelopeKey::from_seed(&[1; 32]).unwrap();
        let bytes = body.sign(&key).unwrap();
        prop_assert_eq!(receipt::decode(bytes.clone()).unwrap().to_bytes().unwrap(), bytes.clone());
        let other = damaged(&bytes, damage);
        if let Ok(accepted) = receipt::decode(other.clone()) {
            prop_assert_eq!(accepted.to_bytes().unwrap(), other);
        }
    }

    /// Goal: proofs of an exchange have one encoding; by round trip, damage and re-encoding.
    #[test]
    fn exchange_proofs(body in receipt_body(), key_id in any::<[u8; 8]>(), damage in damage()) {
        let key = EnvelopeKey::from_seed(&[1; 32]).unwrap();
        let proof = ExchangeProof {
            signature: RootSignature { key_id: KeyId(key_id), signature: [7; 64] },
            receipt: body.sign(&key).unwrap(),
        };
        let bytes = proof.to_bytes().unwrap();
        prop_assert_eq!(&ExchangeProof::from_bytes(bytes.clone()).unwrap(), &proof);
        let other = damaged(&bytes, damage);
        if let Ok(accepted) = ExchangeProof::from_bytes(other.clone()) {
            prop_assert_eq!(accepted.to_bytes().unwrap(), other);
        }
    }

    /// Goal: amendments and consents have one encoding; by round trip, damage and re-encoding.
    #[test]
    fn amendments_and_consents(
        statement in statement(),
        time in any::<u64>(),
        hash in digest(),
        signature in opaque(72),
        damage in damage(),
    ) {
        let consent = ConsentBody {
            from: statement.to.clone(),
            to: statement.from.clone(),
            manifest: Bytes::copy_from_slice(hash.as_bytes()),
            amendment_sha256: hash,
            made_ms: time,
        };
        check_wire(&AmendmentBody { statement, agreement_sha256: hash }, damage.clone());
        check_wire(&consent, damage.clone());
        let mut writer = Writer::new();
        consent.write(&mut writer);
        writer.opaque8("signature", 72, &signature);
        let bytes = writer.finish().unwrap();
        let decoded = Consent::decode(bytes.clone()).unwrap();
        prop_assert_eq!(decoded.body(), &consent);
        let other = damaged(&bytes, damage);
        if let Ok(accepted) = Consent::decode(other.clone()) {
            prop_assert_eq!(accepted.bytes(), &other);
        }
    }

    /// Goal: introductions and charters have one encoding, and a charter names each member once; by
    /// round trip, damage and re-encoding.
    #[test]
    fn introductions_and_charters(
        statement in statement(),
        members in prop::collection::btree_map(server_name(), digest(), 2..=4),
        ids in (any::<[u8; 16]>(), digest()),
        name in "[a-z äö]{1,20}",
        damage in damage(),
    ) {
        let introduction = Introduction {
            server: statement.from,
            versions: statement.versions,
            root: statement.root,
            manifest: statement.manifest,
            endpoints: statement.endpoints,
            contact: statement.contact,
        };
        check_wire(&introduction, damage.clone());
        let body = CharterBody {
            consortium: ConsortiumId::from_bytes(ids.0),
            name,
            serial: statement.serial,
            previous: ids.1,
            terms: statement.terms,
            members: members
                .into_iter()
                .map(|(server, introduction_sha256)| CharterMember { server, introduction_sha256 })
                .collect(),
            made_ms: statement.made_ms,
            expires_ms: statement.expires_ms,
        };
        check_wire(&body, damage);
        let mut twice = body.clone();
        twice.members.push(body.members[0].clone());
        prop_assert!(twice.to_bytes().is_err());
    }

    /// Goal: no damage to a charter's file makes reading it panic, and what opens is what came, its
    /// charter unchanged; by damaging the golden vector.
    #[test]
    fn charter_files(damage in damage()) {
        let file = golden("charter.bin");
        let charter = Charter::open(file.clone(), NOW_MS).unwrap();
        let changed = damaged(&file, damage);
        if let Ok(opened) = Charter::open(changed.clone(), NOW_MS) {
            prop_assert_eq!(opened.to_bytes().unwrap(), changed);
            // No signature holds over another charter.
            let signed = opened.body().members.iter().any(|m| opened.is_signed_by(&m.server));
            prop_assert!(!signed || opened.sha256() == charter.sha256());
        }
    }

    /// Goal: declarations have one encoding; by round trip, damage and re-encoding.
    #[test]
    fn declarations(
        names in (server_name(), server_name()),
        decided in prop_oneof![
            Just(Decided::Suspended),
            Just(Decided::Resumed),
            Just(Decided::Revoked),
            digest().prop_map(Decided::Refused),
        ],
        reason in "[a-z ]{0,20}",
        time in any::<u64>(),
        hash in digest(),
        signature in opaque(72),
        damage in damage(),
    ) {
        let body = DeclarationBody {
            from: names.0,
            to: names.1,
            manifest: Bytes::copy_from_slice(hash.as_bytes()),
            agreement_sha256: hash,
            decided,
            reason,
            made_ms: time,
        };
        check_wire(&body, damage.clone());
        let mut writer = Writer::new();
        body.write(&mut writer);
        writer.opaque8("signature", 72, &signature);
        let bytes = writer.finish().unwrap();
        let decoded = Declaration::decode(bytes.clone()).unwrap();
        prop_assert_eq!(decoded.body(), &body);
        let other = damaged(&bytes, damage);
        if let Ok(accepted) = Declaration::decode(other.clone()) {
            prop_assert_eq!(accepted.bytes(), &other);
        }
    }

    /// Goal: offers, acceptances and countersignatures have one encoding; by round trip, damage
    /// and re-encoding.
    #[test]
    fn documents(
        statement in statement(),
        time in any::<u64>(),
        hash in digest(),
        signature in opaque(72),
        damage in damage(),
    ) {
        check_wire(
            &OfferBody { statement: statement.clone(), answer_by_ms: time },
            damage.clone(),
        );
        let countersignature = CountersignatureBody {
            from: statement.from.clone(),
            to: statement.to.clone(),
            offer_sha256: hash,
            acceptance_sha256: Digest::of(hash.as_bytes()),
            made_ms: time,
        };
        check_wire(&AcceptanceBody { statement, offer_sha256: hash }, damage.clone());
        check_wire(&countersignature, damage.clone());
        let mut writer = Writer::new();
        countersignature.write(&mut writer);
        writer.opaque8("signature", 72, &signature);
        let bytes = writer.finish().unwrap();
        let decoded = Countersignature::decode(bytes.clone()).unwrap();
        prop_assert_eq!(decoded.body(), &countersignature);
        let other = damaged(&bytes, damage);
        if let Ok(accepted) = Countersignature::decode(other.clone()) {
            prop_assert_eq!(accepted.bytes(), &other);
            let body = accepted.body().to_bytes().unwrap();
            prop_assert_eq!(&body, &other[..body.len()]);
        }
    }

    /// Goal: manifests have one encoding; by writing one by hand in any order of keys and pins,
    /// which decodes only in the right order, then damage and re-encoding.
    #[test]
    fn manifests(
        server in server_name(),
        serial in any::<u64>(),
        certificate in opaque(60),
        keys in prop::collection::vec((any::<[u8; 32]>(), 0..10_u64, 5..15_u64), 1..4),
        pins in prop::collection::vec(digest(), 1..4),
        // Which of the keys are revoked, since when, and whether by their ids' order.
        revoked in prop::collection::vec((any::<prop::sample::Index>(), 0..15_u64), 0..3),
        // Roots that it had before, and how much later than the manifest each ends, in hours.
        former in prop::collection::vec((opaque(20), 0..4000_u64), 0..4),
        sorted in any::<bool>(),
        signature in opaque(72),
        damage in damage(),
    ) {
        let serial = serial / 2;
        let mut former: Vec<_> = former
            .into_iter()
            .map(|(root, hours)| (root, serial + hours * 3_600_000))
            .collect();
        let mut revoked: Vec<_> = revoked
            .into_iter()
            .map(|(index, since)| {
                let (public, _, until) = index.get(&keys);
                (KeyId::of(public), since, *until)
            })
            .collect();
        if sorted {
            revoked.sort_unstable();
            former.sort_unstable();
        }
        let mut writer = Writer::new();
        writer.u16(match (former.is_empty(), revoked.is_empty()) {
            (true, true) => 1,
            (true, false) => 2,
            (false, _) => 3,
        });
        writer.server_name(&server);
        writer.u64(serial);
        writer.u64(serial);
        writer.opaque16("certificate", 100, &certificate);
        writer.list("keys", 8, &keys, |writer, (key, from, until)| {
            writer.fixed(key);
            writer.u64(*from);
            writer.u64(*until);
        });
        writer.list("pins", 8, &pins, |writer, pin| writer.fixed(pin.as_bytes()));
        if !revoked.is_empty() || !former.is_empty() {
            writer.list("revoked", 8, &revoked, |writer, (id, since, _)| {
                writer.fixed(&id.0);
                writer.u64(*since);
            });
        }
        if !former.is_empty() {
            writer.list("former", 8, &former, |writer, (root, until)| {
                writer.opaque16("root", 100, root);
                writer.u64(*until);
            });
        }
        writer.opaque8("signature", 72, &signature);
        let bytes = writer.finish().unwrap();
        let in_order = revoked.is_sorted_by(|a, b| a.0 < b.0)
            && revoked.iter().all(|(_, since, until)| since < until)
            && former.len() <= 2
            && former.is_sorted_by(|a, b| a.0 < b.0)
            && former.iter().all(|(_, until)| *until <= serial + 150 * 24 * 3_600_000)
            && keys.is_sorted_by(|a, b| a.0 < b.0)
            && keys.iter().all(|key| key.1 < key.2)
            && pins.is_sorted_by(|a, b| a < b);
        prop_assert_eq!(manifest::decode(bytes.clone()).is_ok(), in_order);
        let other = damaged(&bytes, damage);
        if let Ok(accepted) = manifest::decode(other.clone()) {
            prop_assert_eq!(accepted.to_bytes().unwrap(), other);
        }
    }

    /// Goal: a document in armor comes out as it went in, and damaged armor gives the document or an
    /// error, never another document; by damaging the text.
    #[test]
    fn armor_keeps_or_refuses(document in opaque(300), damage in damage()) {
        let text = armor::write(armor::Kind::Offer, &document);
        prop_assert_eq!(armor::read(armor::Kind::Offer, &text).unwrap(), document.clone());
        let other = String::from_utf8_lossy(&damaged(text.as_bytes(), damage)).into_owned();
        if let Ok(accepted) = armor::read(armor::Kind::Offer, &other) {
            prop_assert_eq!(accepted, document);
        }
    }

    /// Goal: the armor of every kind of document is recognised and keeps it, and damaged armor is
    /// never taken for another kind's without the whole text saying so; by damaging each.
    #[test]
    fn armor_of_every_kind(
        kind in select(&armor::Kind::ALL[..]),
        document in opaque(200),
        damage in damage(),
    ) {
        let text = armor::write(kind, &document);
        prop_assert_eq!(armor::detect(&text), Ok(kind));
        prop_assert_eq!(armor::read(kind, &text).unwrap(), document.clone());
        let other = String::from_utf8_lossy(&damaged(text.as_bytes(), damage)).into_owned();
        for read_as in armor::Kind::ALL {
            if let Ok(accepted) = armor::read(read_as, &other) {
                prop_assert_eq!(armor::detect(&other), Ok(read_as));
                prop_assert_eq!(read_as, kind);
                prop_assert_eq!(accepted, document.clone());
            }
        }
    }

    /// Goal: what reads as a name, an id, an address, an endpoint or a code prints as itself, and
    /// keeps to its limit; by texts that are close to each.
    #[test]
    fn texts_that_identify(
        text in prop_oneof![
            "[a-z0-9-]{0,4}(\\.[a-z0-9-]{0,4}){0,4}",
            "[a-z0-9._-]{0,70}",
            "[a-z0-9._-]{0,5}@[a-z0-9.-]{0,9}",
            "[0-9a-fA-F]{30,33}",
            "[a-z0-9.-]{0,9}:[0-9]{0,6}",
            "\\[[0-9a-f:.]{0,12}\\]:[0-9]{1,5}",
            "[a-z]{1,9}-[a-z]{1,9}",
            ".{0,40}",
        ],
    ) {
        if let Ok(name) = text.parse::<ServerName>() {
            prop_assert_eq!(name.to_string(), text.clone());
            prop_assert!(text.len() <= 253 && text.split('.').all(|label| label.len() <= 63));
        }
        if let Ok(handle) = text.parse::<Handle>() {
            prop_assert_eq!(handle.to_string(), text.clone());
            prop_assert!((1..=64).contains(&text.len()));
        }
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string(), text.clone());
        }
        if let Ok(room) = text.parse::<RoomId>() {
            prop_assert_eq!(room.to_string(), text.clone());
        }
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            prop_assert_eq!(endpoint.to_string(), text.clone());
            let (host, _) = text.rsplit_once(':').unwrap();
            prop_assert!(host.bytes().any(|b| b.is_ascii_alphanumeric() || b == b'['));
        }
        if let Ok(code) = text.parse::<RefusalCode>() {
            prop_assert_eq!(code.as_str(), text);
        }
    }

    /// Goal: ids of any bytes have one text form; by round trip, and by damage that is another id or
    /// none.
    #[test]
    fn ids(bytes in any::<[u8; 16]>(), damage in damage()) {
        let text = RoomId::from_bytes(bytes).to_string();
        prop_assert_eq!(text.parse::<RoomId>().unwrap(), RoomId::from_bytes(bytes));
        prop_assert_eq!(text.parse::<AccountId>().unwrap(), AccountId::from_bytes(bytes));
        prop_assert_eq!(text.parse::<DeviceId>().unwrap(), DeviceId::from_bytes(bytes));
        prop_assert_eq!(text.parse::<RequestId>().unwrap(), RequestId::from_bytes(bytes));
        prop_assert_eq!(text.parse::<FileId>().unwrap(), FileId::from_bytes(bytes));
        let other = String::from_utf8_lossy(&damaged(text.as_bytes(), damage)).into_owned();
        if let Ok(accepted) = other.parse::<RoomId>() {
            prop_assert_eq!(accepted.to_string(), other);
        }
    }

    /// Goal: a fingerprint reads back as printed, and a damaged one is another one or none, never one
    /// of other digits; by damaging its text.
    #[test]
    fn fingerprints(root in opaque(50), damage in damage()) {
        let fingerprint = Fingerprint::of_root(&root);
        let text = fingerprint.to_string();
        prop_assert_eq!(text.parse::<Fingerprint>().unwrap(), fingerprint);
        let other = String::from_utf8_lossy(&damaged(text.as_bytes(), damage)).into_owned();
        if let Ok(accepted) = other.parse::<Fingerprint>() {
            let digits = |text: &str| -> String {
                text.to_lowercase().chars().filter(char::is_ascii_hexdigit).collect()
            };
            prop_assert_eq!(digits(&accepted.to_string()), digits(&other));
        }
    }

    /// Goal: signed documents and certificates of anybody's making never panic, and what opens is
    /// what was signed; by damaging the golden vectors.
    #[test]
    fn signed_documents_and_certificates(damage in damage(), root_too in any::<bool>()) {
        let offer = golden("offer.bin");
        let acceptance = golden("acceptance.bin");
        let changed = damaged(&offer, damage.clone());
        prop_assert_eq!(Offer::open(changed.clone(), NOW_MS).is_ok(), changed == offer);
        let changed = damaged(&acceptance, damage.clone());
        prop_assert_eq!(Acceptance::open(changed.clone(), NOW_MS).is_ok(), changed == acceptance);
        let (root, issuing) = (golden("a-root.der"), golden("a-issuing.der"));
        let changed = if root_too { damaged(&root, damage.clone()) } else { root.clone() };
        let issued = damaged(&issuing, damage);
        let parsed = OrganisationIdentity::parse(changed.clone(), issued.clone(), NOW_MS);
        if let Ok(identity) = parsed {
            prop_assert_eq!((identity.root(), identity.issuing()), (&changed, &issued));
        }
        if let Ok(pin) = tls_pin(&issued) {
            // The certificate's key was not touched, or it is a key of its own.
            let same = pin == tls_pin(&issuing).unwrap();
            prop_assert!(same || issued != issuing);
        }
    }

    /// Goal: no bytes make any decoder panic, and what random bytes are accepted has one encoding;
    /// by random bytes.
    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let bytes = Bytes::from(bytes);
        let _ = transaction::decode(bytes.clone());
        let _ = receipt::decode(bytes.clone());
        let _ = ExchangeProof::from_bytes(bytes.clone());
        let _ = manifest::decode(bytes.clone());
        let _ = Countersignature::decode(bytes.clone());
        let _ = Header::from_bytes(bytes.clone());
        let _ = OfferBody::from_bytes(bytes.clone());
        let _ = AcceptanceBody::from_bytes(bytes.clone());
        let _ = armor::detect(&text);
        let _ = Offer::open(bytes.clone(), NOW_MS);
        let _ = Acceptance::open(bytes.clone(), NOW_MS);
        let _ = Charter::open(bytes.clone(), NOW_MS);
        let _ = Introduction::from_bytes(bytes.clone());
        let _ = OrganisationIdentity::parse(bytes.clone(), bytes.clone(), NOW_MS);
        let _ = tls_pin(&bytes);
        for kind in armor::Kind::ALL {
            let _ = armor::read(kind, &text);
        }
        let _ = text.parse::<Fingerprint>();
        if let Ok(accepted) = VersionSet::from_bytes(bytes.clone()) {
            prop_assert_eq!(accepted.to_bytes().unwrap(), bytes.clone());
        }
        for kind in Kind::ALL {
            if let Ok(accepted) = Payload::decode(kind, bytes.clone()) {
                prop_assert_eq!(accepted.encode().unwrap(), bytes.clone());
            }
        }
    }
}

/// Goal: the largest commit, with the largest welcome and group info and a thousand devices in its lists, is one payload; a welcome that
/// is larger is refused. Method: one of each length, and one byte more.
#[test]
fn the_largest_commit_is_a_payload() {
    let name = [&"a".repeat(63)[..]; 3].join(".");
    let of = |number: u64| Member {
        server: name.parse().unwrap(),
        account: AccountId::from_bytes([1; 16]),
        device: DeviceId::from_bytes(u128::from(number).to_be_bytes()),
    };
    let commit = |welcome: usize| Handshake {
        room: RoomId::from_bytes([0; 16]),
        hub: name.parse().unwrap(),
        epoch: 1,
        sender: of(0),
        reference: 0,
        commit: vec![1; HANDSHAKE_BYTES_MAX].into(),
        adds: (1..=900).map(of).collect(),
        removes: (901..=1_000).map(of).collect(),
        welcome: Some(vec![2; welcome].into()),
        group_info: Some(vec![3; GROUP_INFO_BYTES_MAX].into()),
        stamp_ms: 0,
    };
    let largest = commit(WELCOME_BYTES_MAX);
    let bytes = largest.to_bytes().unwrap();
    assert!(bytes.len() <= PAYLOAD_BYTES_MAX);
    assert_eq!(Handshake::from_bytes(bytes).unwrap(), largest);
    let too_large = commit(WELCOME_BYTES_MAX + 1).to_bytes();
    assert_eq!(too_large.unwrap_err().what, "welcome");
}

/// Goal: encoders refuse what decoders refuse, so that nothing is sent that can't be read; by
/// values over their limits.
#[test]
fn encoders_keep_to_the_limits() {
    let big = Message {
        room: RoomId::from_bytes([0; 16]),
        sender: Sender {
            account: AccountId::from_bytes([0; 16]),
            device: DeviceId::from_bytes([0; 16]),
        },
        reference: 0,
        message: vec![0; 64 * 1024 + 1].into(),
    };
    assert_eq!(big.to_bytes().unwrap_err().what, "message");
    let tombstone = Tombstone {
        count: 0,
        code: RefusalCode::Expired,
    };
    assert!(tombstone.to_bytes().is_err());
    let key = EnvelopeKey::from_seed(&[1; 32]).unwrap();
    let link = Link {
        version: Version::V1,
        origin: "a.example".parse().unwrap(),
        destination: "b.example".parse().unwrap(),
        link_epoch: 1,
    };
    assert!(sign(&key, &link, &[]).is_err());
    let empty = ReceiptBody {
        link,
        root: Digest::ZERO,
        at_ms: 0,
        results: Vec::new(),
        lanes: BTreeMap::new(),
    };
    assert!(empty.sign(&key).is_err());
}
