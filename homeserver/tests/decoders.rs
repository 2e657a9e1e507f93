//! Properties of what reads what others wrote: any input gives a value or an error, and what is read comes
//! back. The fuzz targets in `fuzz/` hold the same with more patience.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test stops at the first surprise"
)]

use homeserver::config::Config;
use homeserver::organisation::{self, issuing, pem, root_key};
use homeserver::store::sealed::generations::GenerationFile;
use homeserver::store::sealed::{MasterKey, WrappedKey};
use homeserver::tls;
use proptest::prelude::*;

#[path = "../fuzz/every_record.rs"]
mod every_record;

/// A peer's certificate and a device's request, as they should be.
fn honest() -> (Vec<u8>, Vec<u8>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    let request = rcgen::CertificateParams::default().serialize_request(&key);
    (certificate, request.unwrap().der().to_vec())
}

/// Lines of a configuration, right and wrong, and any text.
fn configuration() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("[server]".to_owned()),
        Just("[listen]".to_owned()),
        Just("[limits]".to_owned()),
        Just("[nothing]".to_owned()),
        Just("name = \"a.example\"".to_owned()),
        Just("client = \"127.0.0.1:1\"".to_owned()),
        ("[a-z_]{1,12}", any::<i64>()).prop_map(|(key, number)| format!("{key} = {number}")),
        ("[a-z_.]{1,12}", "\\PC{0,20}").prop_map(|(key, text)| format!("{key} = {text:?}")),
        "\\PC{0,40}",
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    /// Goal: any text is a configuration or mistakes that say where. Method: lines in any order.
    #[test]
    fn any_text_is_a_configuration_or_mistakes(text in configuration()) {
        if let Err(mistakes) = Config::read_text("any.toml", &text) {
            prop_assert!(!mistakes.is_empty());
            for mistake in mistakes {
                prop_assert!(mistake.at.starts_with("any.toml"), "{}", mistake);
            }
        }
    }

    /// Goal: armour gives back any bytes and reads no other label. Method: round trip.
    #[test]
    fn armour_gives_back_what_it_holds(bytes: Vec<u8>, label in "[A-Z ]{0,20}[A-Z]") {
        let text = pem::encode(&label, &bytes);
        prop_assert_eq!(pem::decode(&label, &text).unwrap().to_vec(), bytes);
        prop_assert!(pem::decode("another", &text).is_none());
    }

    /// Goal: whoever connects or enrols with any certificate or request is named or refused. Method: true
    /// ones with some bytes changed, cut or added, and any bytes.
    #[test]
    fn any_bytes_are_a_certificate_or_refused(
        any: Vec<u8>,
        at in any::<prop::sample::Index>(),
        byte: u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let (certificate, request) = honest();
        for honest in [&certificate, &request] {
            let mut changed = honest.clone();
            changed[at.index(honest.len())] ^= byte;
            let short = &honest[..cut.index(honest.len())];
            let long = [honest.as_slice(), &any].concat();
            for bytes in [any.as_slice(), &changed, short, &long] {
                if let Some(server) = tls::server_of(bytes) {
                    prop_assert!(!server.as_str().is_empty());
                }
                let _ = organisation::request_key(bytes);
            }
            prop_assert!(tls::server_of(short).is_none());
            prop_assert!(organisation::request_key(short).is_none());
        }
        let server = tls::server_of(&certificate).unwrap();
        prop_assert_eq!(server.as_str(), "a.example");
        prop_assert!(organisation::request_key(&request).is_some());
    }

    /// Goal: any text between the lines is bytes or nothing. Method: any text, whole and in armour.
    #[test]
    fn any_text_is_armour_or_nothing(text in "\\PC*", inner in "[A-Za-z0-9+/= \n]*") {
        let _ = pem::decode("THING", &text);
        let _ = pem::decode("THING", &format!("-----BEGIN THING-----\n{inner}-----END THING-----"));
        root_key::is_well_formed(&text);
        issuing::is_request(&text);
        let _ = pem::blocks(&text);
        issuing::is_request(&format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{inner}-----END CERTIFICATE REQUEST-----"
        ));
    }

    /// Goal: a wrapped key, a generation's file and a master key each have one form. Method: any bytes behind their beginnings,
    /// and any text.
    #[test]
    fn keys_of_the_store_have_one_form(
        rest in prop::collection::vec(any::<u8>(), 60..80), text in "[A-Za-z0-9+/=\n ]{40,48}",
    ) {
        let wrapped = [&[1][..], &rest].concat();
        let read = WrappedKey::decode(&wrapped).map(|key| key.encode().to_vec());
        prop_assert_eq!(read, (wrapped.len() == 69).then_some(wrapped));
        let file = [&b"ent-gen\n\x01"[..], &rest].concat();
        let read = GenerationFile::decode(&file).map(|file| file.encode());
        prop_assert_eq!(read, (file.len() == 85).then_some(file));
        if let Some(key) = MasterKey::parse(&text) {
            let again = key.text();
            prop_assert_eq!(text.trim(), again.trim());
        }
    }

    /// Goal: any header of a root key file is judged, and a greedy one refused. Method: any bytes in its armour.
    #[test]
    fn any_root_key_file_is_judged(
        memory: u32, passes: u32, lanes: u32, rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = vec![1];
        for number in [memory, passes, lanes] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(rest);
        let good = root_key::is_well_formed(&pem::encode("ENTENTE ROOT KEY", &bytes));
        prop_assert!(!good || memory <= 1024 * 1024 && passes <= 16 && lanes <= 16);
    }
}

/// Goal: whatever lies in the store is read or refused, under any key; what is read comes back. Method: any
/// bytes to every reader, half of them with the version that the readers know.
#[test]
fn any_record_is_read_or_refused() {
    let records = every_record::Records::default();
    let mut runner = proptest::test_runner::TestRunner::default();
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(prop_oneof![3 => 0_u8..4, 1 => any::<u8>()], 0..200).prop_map(
            |mut bytes| {
                bytes.insert(0, 1);
                bytes
            }
        ),
    ];
    let suffix = prop::collection::vec(any::<u8>(), 0..60);
    runner
        .run(&(suffix, value), |(suffix, value)| {
            records.read_every(&suffix, &value);
            Ok(())
        })
        .unwrap();
}

/// Goal: each seed of the fuzz target is a record of the kind that names it, so that the fuzzer starts inside
/// the readers. Method: read them all.
#[test]
fn seeds_are_records() {
    let records = every_record::Records::default();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/store_records");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let (suffix, value) = bytes[1..].split_at(usize::from(bytes[0]));
        // Those named for a key start inside the readers of keys.
        if path.to_string_lossy().ends_with("_key") {
            continue;
        }
        // Every non-empty value of version 1 is a payload and a key package.
        let of_any_kind = if value.first() == Some(&1) { 2 } else { 0 };
        let kinds = records.read_every(suffix, value);
        assert!(kinds > of_any_kind, "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0);
}
