//! Passwords: Argon2id on blocking threads, few at a time; guessing is slowed down, never locked out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use homeserver_api::policy::SignInRules;
use ring::rand::SecureRandom;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::IdentityError;

/// Shortest password that is set.
pub const PASSWORD_BYTES_MIN: usize = 8;
/// Longest password that is looked at.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Argon2id's memory and passes, OWASP's first choice. More than 32 MiB on purpose: the allocator then
/// gives the memory back after each hash, where smaller blocks stay with each thread that hashed.
const MEMORY_KIB: u32 = 46 * 1024;
const PASSES: u32 = 1;
const LANES: u32 = 1;
/// Most passwords hashed at once: each takes that memory and a core for tens of milliseconds.
const HASHES_AT_ONCE_MAX: usize = 2;
/// Most sign-ins that wait for their turn.
const HASHES_WAITING_MAX: usize = 256;
/// How long whoever finds all turns taken waits.
const DELAY_MS_MIN: u64 = 1_000;
/// The wait doubles this often at most.
const DOUBLINGS_MAX: u32 = 16;
/// How long a failure is remembered.
const FAILURES_KEPT_MS: u64 = 15 * 60 * 1_000;
/// Most names whose failures are remembered.
const NAMES_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    /// Guesses that are being looked at; each counts as a failure until it is found not to be one.
    under_way: u32,
    last_ms: u64,
    not_before_ms: u64,
}

/// What slows down the guessing of passwords: shared by users and administrators.
#[derive(Debug)]
pub struct SignInGuard {
    hashing: Semaphore,
    waiting: Semaphore,
    failures: Mutex<HashMap<String, Failures>>,
    /// Stands in for the hash of an account that does not exist.
    decoy: OnceLock<String>,
}

impl Default for SignInGuard {
    fn default() -> Self {
        Self {
            hashing: Semaphore::new(HASHES_AT_ONCE_MAX),
            waiting: Semaphore::new(HASHES_WAITING_MAX),
            failures: Mutex::default(),
            decoy: OnceLock::new(),
        }
    }
}

impl SignInGuard {
    /// As [`SignInGuard::verify_by`], with what holds where no user type says otherwise.
    pub async fn verify(
        &self,
        name: &str,
        password: &str,
        hash: Option<String>,
        now_ms: u64,
        random: &(dyn SecureRandom + Send + Sync),
    ) -> Result<(), IdentityError> {
        let rules = SignInRules::default();
        self.verify_by(rules, name, password, hash, now_ms, random)
            .await
    }

    /// Checks `password` against `hash` (`None`: nobody has this name; the same work is done and the
    /// same answer given). `name` is whose failures are counted, by `rules`.
    pub async fn verify_by(
        &self,
        rules: SignInRules,
        name: &str,
        password: &str,
        hash: Option<String>,
        now_ms: u64,
        random: &(dyn SecureRandom + Send + Sync),
    ) -> Result<(), IdentityError> {
        let guess = self.reserve(rules, name, now_ms)?;
        let known = hash.is_some();
        let hash = match hash {
            Some(hash) => hash,
            None => self.decoy(random).await?,
        };
        let password = Zeroizing::new(password.to_owned());
        let right = password.len() <= PASSWORD_BYTES_MAX
            && self
                .work(move || {
                    Argon2::default()
                        .verify_password(password.as_bytes(), hash.as_str())
                        .is_ok()
                })
                .await?;
        if right && known {
            guess.was_right();
            return Ok(());
        }
        guess.was_wrong(now_ms);
        Err(IdentityError::SignInFailed)
    }

    /// Hashes a new password.
    pub async fn hash(
        &self,
        password: &str,
        random: &(dyn SecureRandom + Send + Sync),
    ) -> Result<String, IdentityError> {
        if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
            return Err(IdentityError::Invalid(format!(
                "a password has between {PASSWORD_BYTES_MIN} and {PASSWORD_BYTES_MAX} bytes: choose another"
            )));
        }
        self.hash_any(Zeroizing::new(password.to_owned()), random)
            .await
    }

    async fn hash_any(
        &self,
        password: Zeroizing<String>,
        random: &(dyn SecureRandom + Send + Sync),
    ) -> Result<String, IdentityError> {
        let mut salt = [0_u8; 16];
        random
            .fill(&mut salt)
            .map_err(|_| IdentityError::System("the system has no randomness".to_owned()))?;
        let parameters = Params::new(MEMORY_KIB, PASSES, LANES, None)
            .map_err(|error| IdentityError::System(error.to_string()))?;
        self.work(move || {
            Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
                .hash_password_with_salt(password.as_bytes(), &salt)
                .map(|hash| hash.to_string())
                .map_err(|error| IdentityError::System(error.to_string()))
        })
        .await?
    }

    async fn decoy(
        &self,
        random: &(dyn SecureRandom + Send + Sync),
    ) -> Result<String, IdentityError> {
        if let Some(decoy) = self.decoy.get() {
            return Ok(decoy.clone());
        }
        let made = self
            .hash_any(Zeroizing::new("nobody's password".to_owned()), random)
            .await?;
        Ok(self.decoy.get_or_init(|| made).clone())
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, IdentityError> {
        // Beyond a full waiting room the answer is at once that there is none.
        let _waiting = self
            .waiting
            .try_acquire()
            .map_err(|_| IdentityError::SlowDown {
                retry_after_ms: DELAY_MS_MIN,
            })?;
        let closed = |_| IdentityError::System("it is stopping".to_owned());
        let _hashing = self.hashing.acquire().await.map_err(closed)?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| IdentityError::System(error.to_string()))
    }

    /// Lets one guess at this name be looked at, unless enough have failed or are under way.
    fn reserve<'a>(
        &'a self,
        rules: SignInRules,
        name: &'a str,
        now_ms: u64,
    ) -> Result<Guess<'a>, IdentityError> {
        let mut failures = self.lock();
        let known = failures.get(name).copied().unwrap_or_default();
        if now_ms < known.not_before_ms {
            return Err(IdentityError::SlowDown {
                retry_after_ms: known.not_before_ms - now_ms,
            });
        }
        // Of many at once no more are looked at than would be one after the other.
        let free = rules.free_failures.saturating_add(1);
        let free = free.saturating_sub(known.count).max(1);
        if known.under_way >= free {
            return Err(IdentityError::SlowDown {
                retry_after_ms: DELAY_MS_MIN,
            });
        }
        if failures.len() >= NAMES_MAX {
            failures.retain(|_, f| {
                f.under_way > 0 || now_ms.saturating_sub(f.last_ms) < FAILURES_KEPT_MS
            });
        }
        if failures.len() >= NAMES_MAX {
            failures.retain(|_, f| f.under_way > 0);
        }
        let entry = failures.entry(name.to_owned()).or_insert(Failures {
            last_ms: now_ms,
            ..Failures::default()
        });
        entry.under_way = entry.under_way.saturating_add(1);
        Ok(Guess {
            guard: self,
            name,
            rules,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One guess while it is looked at.
struct Guess<'a> {
    guard: &'a SignInGuard,
    name: &'a str,
    rules: SignInRules,
}

impl Guess<'_> {
    /// Whoever knows the password has not failed.
    fn was_right(self) {
        if let Some(entry) = self.guard.lock().get_mut(self.name) {
            entry.count = 0;
            entry.not_before_ms = 0;
        }
    }

    fn was_wrong(self, now_ms: u64) {
        let mut failures = self.guard.lock();
        let entry = failures.entry(self.name.to_owned()).or_default();
        if now_ms.saturating_sub(entry.last_ms) >= FAILURES_KEPT_MS {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last_ms = now_ms;
        let rules = &self.rules;
        if let Some(over) = entry
            .count
            .checked_sub(rules.free_failures.saturating_add(1))
        {
            let least_ms = u64::from(rules.delay_seconds_min) * 1000;
            let most_ms = u64::from(rules.delay_seconds_max) * 1000;
            let delay_ms = (least_ms << over.min(DOUBLINGS_MAX)).min(most_ms);
            entry.not_before_ms = now_ms.saturating_add(delay_ms);
        }
        if rules.lockout_failures > 0 && entry.count >= rules.lockout_failures {
            let locked_ms = u64::from(rules.lockout_seconds) * 1000;
            entry.not_before_ms = now_ms.saturating_add(locked_ms).max(entry.not_before_ms);
        }
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        let mut failures = self.guard.lock();
        if let Some(entry) = failures.get_mut(self.name) {
            entry.under_way = entry.under_way.saturating_sub(1);
            if entry.under_way == 0 && entry.count == 0 {
                failures.remove(self.name);
            }
        }
    }
}

/// A password that people can read to each other: 100 random bits in five groups.
pub fn make(random: &(dyn SecureRandom + Send + Sync)) -> Result<String, IdentityError> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 20];
    random
        .fill(&mut bytes)
        .map_err(|_| IdentityError::System("the system has no randomness".to_owned()))?;
    let mut password = String::with_capacity(24);
    for (n, byte) in bytes.iter().enumerate() {
        if n > 0 && n % 4 == 0 {
            password.push('-');
        }
        let letter = LETTERS.get(usize::from(byte & 31)).copied();
        password.push(char::from(letter.unwrap_or(b'a')));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test's own randomness")]
    fn random() -> SystemRandom {
        SystemRandom::new()
    }

    /// Goal: a right password passes, a wrong one and an unknown name get one and the same answer;
    /// failures slow down, for either alike, and end when time passes.
    #[tokio::test]
    async fn one_answer_and_a_delay() {
        let guard = SignInGuard::default();
        let random = random();
        let hash = guard.hash("correct horse", &random).await.unwrap();
        let now = 1_000_000;
        let good = guard.verify("alice", "correct horse", Some(hash.clone()), now, &random);
        good.await.unwrap();
        for n in 0..=SignInRules::default().free_failures {
            for (name, hash) in [("alice", Some(hash.clone())), ("nobody", None)] {
                let error = guard.verify(name, "wrong horse", hash, now, &random).await;
                assert!(
                    matches!(error, Err(IdentityError::SignInFailed)),
                    "{name} {n}"
                );
            }
        }
        for (name, hash) in [("alice", Some(hash.clone())), ("nobody", None)] {
            let error = guard
                .verify(name, "correct horse", hash, now, &random)
                .await;
            assert!(matches!(
                error,
                Err(IdentityError::SlowDown {
                    retry_after_ms: 1000
                })
            ));
        }
        let later = now + DELAY_MS_MIN;
        let good = guard.verify("alice", "correct horse", Some(hash), later, &random);
        good.await.unwrap();
    }

    /// Goal: a user type's own delays hold, and a lockout where it has one: then the right password does not help either until
    /// it is over. Method: failures by a strict type's rules, and the moments around the end of each wait.
    #[tokio::test]
    async fn delays_of_a_user_type() {
        let guard = SignInGuard::default();
        let random = random();
        let hash = guard.hash("correct horse", &random).await.unwrap();
        let rules = SignInRules {
            free_failures: 0,
            delay_seconds_min: 10,
            delay_seconds_max: 15,
            lockout_failures: 3,
            lockout_seconds: 3600,
        };
        let mut now = 1_000_000;
        for wait_ms in [10_000, 15_000, 3_600_000] {
            let wrong = guard.verify_by(rules, "alice", "wrong", Some(hash.clone()), now, &random);
            assert!(matches!(wrong.await, Err(IdentityError::SignInFailed)));
            let early = now + wait_ms - 1;
            let right = guard.verify_by(
                rules,
                "alice",
                "correct horse",
                Some(hash.clone()),
                early,
                &random,
            );
            let refused = right.await;
            assert!(
                matches!(refused, Err(IdentityError::SlowDown { retry_after_ms: 1 })),
                "{refused:?}"
            );
            now += wait_ms;
        }
        let right = guard.verify_by(rules, "alice", "correct horse", Some(hash), now, &random);
        right.await.unwrap();
    }

    /// Goal: of many guesses at once no more are looked at than of guesses one after the other; by
    /// starting twenty before any is answered.
    #[tokio::test]
    async fn guesses_at_once() {
        let guard = SignInGuard::default();
        let random = random();
        let hash = guard.hash("correct horse", &random).await.unwrap();
        let guesses =
            (0..20).map(|_| guard.verify("alice", "wrong", Some(hash.clone()), 1, &random));
        let answers = futures_util::future::join_all(guesses).await;
        let looked_at = answers
            .iter()
            .filter(|answer| matches!(answer, Err(IdentityError::SignInFailed)));
        assert_eq!(looked_at.count(), 5);
        let good = guard.verify(
            "alice",
            "correct horse",
            Some(hash),
            1 + DELAY_MS_MIN,
            &random,
        );
        good.await.unwrap();
        assert!(guard.lock().is_empty());
    }

    /// Goal: passwords too short or too long are refused with what to do; made ones are not.
    #[tokio::test]
    async fn lengths() {
        let guard = SignInGuard::default();
        let random = random();
        for bad in ["short", &"x".repeat(300)] {
            let error = guard.hash(bad, &random).await.unwrap_err();
            assert!(error.to_string().contains("between 8 and 256"));
        }
        let (one, two) = (make(&random).unwrap(), make(&random).unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 24);
    }
}
