//! Administrators who sign in over the network.
//!
//! A session is a random token, stored as its hash, for [`SESSION_MS`]. Guessing is slowed down as it
//! is for users, and a wrong name costs what a wrong password does.

use federation_proto::ids::Handle;
use homeserver_api::password::{ChangePasswordRequest, Password};
use zeroize::Zeroizing;

use crate::audit::{self, Actor, Event};
use crate::identity::IdentityError;
use crate::node::Node;
use crate::store::administrators::{self, AdminSession, Administrator};
use crate::store::{Part, PartOutcome, StoreError};

/// How long a session lasts.
const SESSION_MS: u64 = 12 * 60 * 60 * 1000;
/// Sessions looked at, to delete those that have ended, at each sign-in.
const SESSIONS_SWEPT: usize = 64;

/// Signs an administrator in: the token and when it ends.
pub(super) async fn sign_in(
    node: &Node,
    name: &Handle,
    password: &Password,
) -> Result<(String, u64), IdentityError> {
    let now_ms = node.clock.now_ms();
    let administrator = administrators::get(&node.store, name).await?;
    let hash = administrator
        .as_ref()
        .map(|(administrator, _)| administrator.password_hash.clone());
    let verdict = node
        .sign_in
        .verify(
            &counted(name),
            password.as_str(),
            hash,
            now_ms,
            node.random.as_ref(),
        )
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
    // A password that was changed meanwhile opens no session any more.
    if let Some((_, read)) = administrator {
        administrators::require(&mut part, name, read);
    }
    match node.store.commit(part).await? {
        PartOutcome::Committed => Ok((token, expires_ms)),
        PartOutcome::Conflict => Err(IdentityError::Busy),
    }
}

/// Ends a session.
pub(super) async fn sign_out(node: &Node, session: &Session) -> Result<(), IdentityError> {
    let mut part = Part::default();
    administrators::end_session(&mut part, &session.token_sha256);
    audit::record(
        &mut part,
        &Event {
            at_ms: node.clock.now_ms(),
            actor: Actor::Admin(session.name.clone()),
            action: "administrator.signed-out",
            subject: session.name.to_string(),
            detail: String::new(),
        },
    );
    // A conflict: it had ended at the same moment.
    node.store.commit(part).await?;
    Ok(())
}

/// Gives an administrator another password, by whoever is signed in and knows the present one. All other sessions
/// end with it.
pub(super) async fn change_password(
    node: &Node,
    session: &Session,
    request: &ChangePasswordRequest,
) -> Result<(), IdentityError> {
    let Session { name, token_sha256 } = session;
    let gone = || IdentityError::WrongPassword;
    let (mut administrator, read) = administrators::get(&node.store, name)
        .await?
        .ok_or_else(gone)?;
    let (random, now_ms) = (node.random.as_ref(), node.clock.now_ms());
    let hash = Some(administrator.password_hash);
    let verified = node
        .sign_in
        .verify(&counted(name), request.old.as_str(), hash, now_ms, random)
        .await;
    let event = |action, detail| Event {
        at_ms: now_ms,
        actor: Actor::Admin(name.clone()),
        action,
        subject: name.to_string(),
        detail,
    };
    if matches!(verified, Err(IdentityError::SignInFailed)) {
        let refused = event("administrator.password-refused", String::new());
        node.repeated.note(&node.store, refused).await?;
        return Err(IdentityError::WrongPassword);
    }
    verified?;
    administrator.password_hash = node.sign_in.hash(request.new.as_str(), random).await?;
    let mut part = Part::default();
    administrators::replace(&mut part, name, read, &administrator)?;
    let ended =
        administrators::end_other_sessions(&node.store, &mut part, name, token_sha256).await?;
    let detail = format!("{ended} other sessions ended");
    audit::record(&mut part, &event("administrator.password-changed", detail));
    if node.store.commit(part).await? == PartOutcome::Conflict {
        return Err(IdentityError::Busy);
    }
    // One that began with the old password between the look and the act.
    let mut rest = Part::default();
    if administrators::end_other_sessions(&node.store, &mut rest, name, token_sha256).await? > 0 {
        node.store.commit(rest).await?;
    }
    Ok(())
}

/// Users and administrators may have the same names; their failures are counted apart.
fn counted(name: &Handle) -> String {
    format!("admin:{name}")
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

/// A session that lasts.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Whose it is.
    pub(super) name: Handle,
    token_sha256: [u8; 32],
}

/// The session that this token opens, as long as it lasts.
pub(super) async fn session(node: &Node, token: &str) -> Result<Option<Session>, StoreError> {
    let token_sha256 = token_sha256(token);
    let session = administrators::session(&node.store, &token_sha256).await?;
    Ok(session
        .filter(|session| session.expires_ms > node.clock.now_ms())
        .map(|session| Session {
            name: session.name,
            token_sha256,
        }))
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
