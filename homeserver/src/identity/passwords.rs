//! Passwords: Argon2id, and one answer for a wrong password and for nobody's.
//!
//! Hashing is meant to be costly: it runs on the blocking threads, few at a time, so that a crowd of
//! sign-ins neither stops other work nor takes all memory.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use ring::rand::SecureRandom;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Most hashes computed at once.
const AT_ONCE_MAX: usize = 2;
const SALT_BYTES: usize = 16;
/// Shortest password that a person may choose.
pub const PASSWORD_BYTES_MIN: usize = 8;
/// Longest password that is looked at.
pub const PASSWORD_BYTES_MAX: usize = 1024;

static SLOTS: Semaphore = Semaphore::const_new(AT_ONCE_MAX);

/// Hash of a password that nobody has, for names that do not exist.
static NOBODYS: LazyLock<Option<String>> =
    LazyLock::new(|| hash_with_salt("nobody's", &[0; SALT_BYTES]).ok());

/// A password could not be hashed; the homeserver is at fault.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the password could not be hashed: {0}")]
pub struct PasswordError(String);

/// Hashes a password (PHC string). Takes its time: not on a thread that serves others.
pub fn hash_now(password: &str, random: &dyn SecureRandom) -> Result<String, PasswordError> {
    let mut salt = [0; SALT_BYTES];
    random
        .fill(&mut salt)
        .map_err(|_| PasswordError("the system has no randomness".to_owned()))?;
    hash_with_salt(password, &salt)
}

/// Hashes a password (PHC string).
pub async fn hash(
    password: Zeroizing<String>,
    random: &dyn SecureRandom,
) -> Result<String, PasswordError> {
    let mut salt = [0; SALT_BYTES];
    random
        .fill(&mut salt)
        .map_err(|_| PasswordError("the system has no randomness".to_owned()))?;
    on_blocking_thread(move || hash_with_salt(&password, &salt)).await?
}

/// Whether `password` has the hash `stored`. `None` stands for a name that does not exist: the answer is
/// no, after the same work.
pub async fn verify(
    password: Zeroizing<String>,
    stored: Option<String>,
) -> Result<bool, PasswordError> {
    on_blocking_thread(move || {
        let known = stored.is_some();
        let stored = stored.or_else(|| NOBODYS.clone()).unwrap_or_default();
        let parsed =
            PasswordHash::new(&stored).map_err(|error| PasswordError(error.to_string()))?;
        let right = password.len() <= PASSWORD_BYTES_MAX
            && Argon2::default()
                .verify_password(password.as_bytes(), &parsed)
                .is_ok();
        Ok(known && right)
    })
    .await?
}

fn hash_with_salt(password: &str, salt: &[u8]) -> Result<String, PasswordError> {
    Argon2::default()
        .hash_password_with_salt(password.as_bytes(), salt)
        .map(|hash| hash.to_string())
        .map_err(|error| PasswordError(error.to_string()))
}

async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PasswordError> {
    let wrong = |error: &dyn std::fmt::Display| PasswordError(error.to_string());
    let _slot = SLOTS.acquire().await.map_err(|error| wrong(&error))?;
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    /// Goal: only the right password of somebody who exists is right; by trying the others too.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    async fn only_the_right_password() {
        let random = SystemRandom::new();
        let password = |text: &str| Zeroizing::new(text.to_owned());
        let stored = hash(password("correct horse"), &random).await.unwrap();
        assert!(stored.starts_with("$argon2id$"), "{stored}");
        assert_ne!(
            stored,
            hash_now("correct horse", &random).unwrap(),
            "salted"
        );
        assert!(
            verify(password("correct horse"), Some(stored.clone()))
                .await
                .unwrap()
        );
        assert!(
            !verify(password("correct horsf"), Some(stored.clone()))
                .await
                .unwrap()
        );
        assert!(!verify(password(""), Some(stored)).await.unwrap());
        // Even the password behind the stand-in is nobody's.
        assert!(!verify(password("nobody's"), None).await.unwrap());
        assert!(
            verify(password("x"), Some("nonsense".to_owned()))
                .await
                .is_err()
        );
    }
}
