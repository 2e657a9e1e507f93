//! Accounts, their devices, how they sign in, and the key packages that others add them with.
//!
//! Deliberately absent: HTTP.

pub mod accounts;
mod accounts_cache;
pub mod barriers;
pub mod device_log;
pub mod devices;
pub mod enrolment;
mod error;
pub mod key_packages;
pub mod own_rules;
pub mod passwords;
mod rate_limit;
pub mod sign_in;
mod usage;
pub mod user_types;

pub use accounts_cache::{AccountsCache, LocalAccount};
pub use device_log::DeviceLog;
pub use error::{IdentityError, barred_code};
pub use passwords::SignInGuard;
pub use rate_limit::{RateLimit, Remote, network};

#[cfg(test)]
pub(crate) mod testing {
    //! Accounts and devices without passwords and certificates.

    use federation_proto::ids::{AccountId, DeviceId, Handle, Member};
    use homeserver_api::policy::{OwnRules, UserTypePolicy};

    use federation_proto::device_log::How;

    use super::user_types::STANDARD;
    use super::{device_log, devices};
    use crate::node::Node;
    use crate::organisation::DeviceRequest;
    use crate::store::account::{self, AccountRecord};
    use crate::store::device::{self, DeviceOf, DeviceRecord};
    use crate::store::{Part, PartOutcome, user_type};

    /// A device of the account with this handle, which is created when it is not there.
    pub(crate) async fn device(node: &Node, handle: &str) -> DeviceOf {
        device_with_token(node, handle).await.0
    }

    /// A device as [`device`] makes it, and its bearer token.
    pub(crate) async fn device_with_token(node: &Node, handle: &str) -> (DeviceOf, String) {
        let handle: Handle = handle.parse().unwrap();
        let id = account::by_handle(&node.store, &handle).await.unwrap();
        let mut part = Part::default();
        let address = format!("{handle}@{}", node.server);
        let account = id.unwrap_or_else(|| AccountId::from_bytes(node.random_id().unwrap()));
        let mut record = match account::get(&node.store, account).await.unwrap() {
            Some((record, _)) => record,
            None => {
                account::take_handle(&mut part, &handle, account);
                user_type::put(&mut part, STANDARD, &UserTypePolicy::default()).unwrap();
                AccountRecord {
                    handle,
                    user_type: STANDARD.to_owned(),
                    suspended: false,
                    password_hash: String::new(),
                    devices: 0,
                    statements: 0,
                    created_ms: 0,
                    own: OwnRules::default(),
                }
            }
        };
        let of = DeviceOf {
            account,
            device: DeviceId::from_bytes(node.random_id().unwrap()),
        };
        certify(node, of, &address);
        let token = devices::new_token(node).unwrap();
        let mut public_key = [0; 32];
        node.random.fill(&mut public_key).unwrap();
        let new = DeviceRecord {
            name: "test".to_owned(),
            enrolled_ms: 0,
            public_key,
            not_after_ms: u64::MAX,
            token_sha256: devices::token_sha256(&token),
            signed_in_ms: node.clock.now_ms(),
            banner: None,
        };
        let chain = node.device_log.chain(node, account).await.unwrap();
        let how = match record.statements {
            0 => How::First,
            _ => How::Reset,
        };
        let statement = chain.next(of.device, public_key, how, 0);
        device_log::append(&mut part, &mut record.statements, &statement).unwrap();
        record.devices += 1;
        account::put(&mut part, account, &record).unwrap();
        device::create(&mut part, of, &new).unwrap();
        let outcome = node.store.commit(part).await.unwrap();
        assert_eq!(outcome, PartOutcome::Committed);
        (of, token)
    }

    fn certify(node: &Node, of: DeviceOf, address: &str) {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let params = rcgen::CertificateParams::default();
        let request = DeviceRequest {
            csr: params.serialize_request(&key).unwrap().der().to_vec(),
            address: address.parse().unwrap(),
            account: of.account,
            device: of.device,
        };
        let random = node.random.as_ref();
        let now_ms = node.clock.now_ms();
        let issued = node.keys.issue_device_certificate(&request, now_ms, random);
        let issued = issued.unwrap();
        let chain = [issued.der.to_vec(), issued.issuing.to_vec()];
        crate::rooms::testing::certified(&node.keys, of.device, &key, &chain);
    }

    /// The device as a room's member.
    pub(crate) fn member(node: &Node, of: DeviceOf) -> Member {
        Member {
            server: node.server.clone(),
            account: of.account,
            device: of.device,
        }
    }
}
