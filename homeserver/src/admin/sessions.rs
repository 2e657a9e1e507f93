//! Administrators who sign in over the network.
//!
//! A session is a random token, stored as its hash, for [`SESSION_MS`]. Guessing is slowed down as it
//! is for users, and a wrong name costs what a wrong password does.

use federation_proto::ids::Handle;
use zeroize::Zeroizing;

use crate::audit::{self, Actor, Event};
use crate::identity::IdentityError;
use crate::node::Node;
use crate::store::administrators::{self, AdminSession, Administrator};
use crate::store::{Part, StoreError};

/// How long a session lasts.
const SESSION_MS: u64 = 12 * 60 * 60 * 1000;
/// Sessions looked at, to delete those that have ended, at each sign-in.
const SESSIONS_SWEPT: usize = 64;

/// Signs an administrator in: the token and when it ends.
pub(super) async fn sign_in(
    node: &Node,
    name: &Handle,
    password: Zeroizing<String>,
) -> Result<(String, u64), IdentityError> {
    let now_ms = node.clock.now_ms();
    let administrator = administrators::get(&node.store, name).await?;
    let hash = administrator.map(|administrator| administrator.password_hash);
    // Users and administrators may have the same names; their failures are counted apart.
    let counted = format!("admin:{name}");
    let verdict = node
        .sign_in
        .verify(&counted, &password, hash, now_ms, node.random.as_ref())
        .await;
    let mut part = Part::default();
    let event = |action| Event {
        at_ms: now_ms,
        actor: Actor::Admin(name.clone()),
        action,
        subject: name.to_string(),
        detail: String::new(),
    };
    if let Err(error) = verdict {
        if matches!(error, IdentityError::SignInFailed) {
            // Under one subject: the names are whatever a stranger makes up.
            let refused = Event {
                actor: Actor::System,
                subject: "sign-in".to_owned(),
                detail: format!("as {name}"),
                ..event("administrator.sign-in-refused")
            };
            node.repeated.note(&node.store, refused).await?;
        }
        return Err(error);
    }
    let mut secret = Zeroizing::new([0_u8; 32]);
    node.random
        .fill(secret.as_mut_slice())
        .map_err(|_| IdentityError::System("no randomness".to_owned()))?;
    let token = hex::encode(secret.as_slice());
    let expires_ms = now_ms.saturating_add(SESSION_MS);
    administrators::delete_ended_sessions(&node.store, &mut part, now_ms, SESSIONS_SWEPT).await?;
    administrators::put_session(
        &mut part,
        &token_sha256(&token),
        &AdminSession {
            name: name.clone(),
            expires_ms,
        },
    )?;
    audit::record(&mut part, &event("administrator.signed-in"));
    node.store.commit(part).await?;
    Ok((token, expires_ms))
}

/// Makes an administrator's account; the part fails when there is one of this name already.
pub fn create(
    part: &mut Part,
    name: &Handle,
    password_hash: String,
    created_ms: u64,
) -> Result<(), StoreError> {
    let record = Administrator {
        password_hash,
        created_ms,
    };
    administrators::create(part, name, &record)
}

/// The administrator whose session this token is, as long as it lasts.
pub(super) async fn administrator(node: &Node, token: &str) -> Result<Option<Handle>, StoreError> {
    let session = administrators::session(&node.store, &token_sha256(token)).await?;
    Ok(session
        .filter(|session| session.expires_ms > node.clock.now_ms())
        .map(|session| session.name))
}

/// What a session is stored under.
fn token_sha256(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    hash
}
