//! The vectors of RFC 9420 with mls-rs and our crypto provider. See `homeserver/tests/vectors/rfc9420`.

use mls_rs::identity::basic::BasicIdentityProvider;
use mls_rs::storage_provider::in_memory::InMemoryKeyPackageStorage;
use mls_rs_core::crypto::{CryptoProvider as _, HpkeSecretKey, SignatureSecretKey};
use mls_rs_core::key_package::KeyPackageData;

use super::*;

fn vector(text: &str) -> impl Fn(&str) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    move |field| hex::decode(value[field].as_str().unwrap()).unwrap()
}

fn crypto() -> RustCryptoProvider {
    RustCryptoProvider::with_enabled_cipher_suites(vec![CIPHER_SUITE])
}

/// Goal: a welcome that another implementation made leads our stack into the same group: keys, tree, signatures and key
/// schedule. Method: the vector's member joins, and its epoch authenticator is the vector's; a changed welcome is refused.
#[test]
fn rfc9420_welcome() {
    let of = vector(include_str!(
        "../../../tests/vectors/rfc9420/passive-client-welcome.json"
    ));
    let package = of("key_package");
    let message = MlsMessage::from_bytes(&package).unwrap();
    let suite = crypto().cipher_suite_provider(CIPHER_SUITE).unwrap();
    let reference = message.key_package_reference(&suite).unwrap().unwrap();
    let identity = message.as_key_package().unwrap().signing_identity().clone();
    assert!(identity.credential.as_basic().is_some());
    // Behind version and wire format.
    let data = KeyPackageData::new(
        package[4..].to_vec(),
        HpkeSecretKey::from(of("init_priv")),
        HpkeSecretKey::from(of("encryption_priv")),
        u64::MAX,
    );
    let join = |welcome: &[u8]| {
        let packages = InMemoryKeyPackageStorage::new();
        packages.insert(reference.to_vec(), data.clone());
        let secret = SignatureSecretKey::new(of("signature_priv"));
        let client = mls_rs::Client::builder()
            .crypto_provider(crypto())
            .identity_provider(BasicIdentityProvider::new())
            .key_package_repo(packages)
            .signing_identity(identity.clone(), secret, CIPHER_SUITE)
            .build();
        let welcome = MlsMessage::from_bytes(welcome).ok()?;
        let (group, _) = client.join_group(None, &welcome, None).ok()?;
        Some(group.epoch_authenticator().unwrap().as_bytes().to_vec())
    };
    let mut welcome = of("welcome");
    assert_eq!(join(&welcome), Some(of("initial_epoch_authenticator")));
    let last = welcome.len() - 1;
    welcome[last] ^= 1;
    assert_eq!(join(&welcome), None);
}

/// Goal: messages of another implementation are read and written again byte for byte by what we read every message with, and no
/// cut or longer one is. Method: the vectors.
#[test]
fn rfc9420_messages_are_read_whole() {
    let text = include_str!("../../../tests/vectors/rfc9420/messages.json");
    let messages: std::collections::BTreeMap<String, String> = serde_json::from_str(text).unwrap();
    assert_eq!(messages.len(), 7);
    for (name, hex) in messages {
        let bytes = hex::decode(hex).unwrap();
        let message = parse(&bytes).unwrap();
        assert_eq!(message.to_bytes().unwrap(), bytes, "{name}");
        let longer = [&bytes[..], &[0]].concat();
        assert!(parse(&longer).is_err(), "{name}");
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "{name}");
        }
    }
}
