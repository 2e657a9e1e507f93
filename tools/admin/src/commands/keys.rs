//! `keys`.

use homeserver_api::keys::{
    EnvelopeKeyStatus, KeyUse, KeysStatus, PartnerKnowledge, RevokeEnvelopeKeyRequest,
    RevokeTlsKeyRequest, RootChangeStatus, RotateKeyRequest, TlsKeyStatus,
};

use super::confirm;
use crate::cli::{KeyKind, KeysCommand, RevokeKeyArguments};
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, facts, list};
use crate::values::{distance, instant, instant_and_distance, now_ms};

/// What names every envelope key.
const ALL: &str = "all";

/// `keys …`.
pub(super) async fn run(
    admin: &Admin,
    command: KeysCommand,
    format: Format,
) -> Result<(), Failure> {
    let status: KeysStatus = match command {
        KeysCommand::Show => admin.get("/admin/v1/keys").await?,
        KeysCommand::Rotate { kind } => rotate(admin, kind).await?,
        KeysCommand::Revoke(revoked) => revoke(admin, revoked).await?,
        KeysCommand::Root(command) => return super::keys_root::run(admin, command, format).await,
    };
    format.show(&status, sheet)
}

/// Names the key that is replaced, so that what was done already is not done twice.
async fn rotate(admin: &Admin, kind: KeyKind) -> Result<KeysStatus, Failure> {
    let before: KeysStatus = admin.get("/admin/v1/keys").await?;
    let (path, replaces) = match kind {
        KeyKind::Envelope => ("/admin/v1/keys/envelope/rotate", current_envelope(&before)),
        KeyKind::Tls => ("/admin/v1/keys/tls/rotate", current_tls(&before)),
    };
    admin.post(path, &RotateKeyRequest { replaces }).await
}

fn current_envelope(status: &KeysStatus) -> Option<String> {
    let mut keys = status.envelope.iter();
    let current = keys.find(|key| key.used_as == KeyUse::Current);
    current.map(|key| key.id.clone())
}

fn current_tls(status: &KeysStatus) -> Option<String> {
    let mut keys = status.tls.iter();
    let current = keys.find(|key| key.used_as == KeyUse::Current);
    current.map(|key| key.pin.clone())
}

async fn revoke(admin: &Admin, revoked: RevokeKeyArguments) -> Result<KeysStatus, Failure> {
    let RevokeKeyArguments {
        kind,
        key,
        since,
        yes,
    } = revoked;
    if kind == KeyKind::Tls && since.is_some() {
        return Err(Failure::Usage(
            "--since is for envelope keys: a TLS key counts until partners hear of its revocation"
                .to_owned(),
        ));
    }
    if !yes {
        confirm(
            &format!(
                "Revoke {key}? It can't be taken back, and mail that a room's hub took since then is lost."
            ),
            "--yes",
        )?;
    }
    match kind {
        KeyKind::Envelope => {
            let request = RevokeEnvelopeKeyRequest {
                key: (key != ALL).then_some(key),
                since_ms: since.map(|ago| now_ms().saturating_sub(u64::from(ago) * 1000)),
            };
            admin.post("/admin/v1/keys/envelope/revoke", &request).await
        }
        KeyKind::Tls => {
            let request = RevokeTlsKeyRequest { pin: key };
            admin.post("/admin/v1/keys/tls/revoke", &request).await
        }
    }
}

const fn used_as(key: KeyUse) -> &'static str {
    match key {
        KeyUse::Current => "in use",
        KeyUse::Next => "next",
        KeyUse::Former => "former",
        KeyUse::Revoked => "revoked",
    }
}

/// What there is beside the root, in words.
pub(super) fn second_root(change: Option<&RootChangeStatus>) -> String {
    match change {
        None => "none".to_owned(),
        Some(RootChangeStatus {
            fingerprint,
            former_until_ms: None,
            ..
        }) => format!("{fingerprint}, to take over"),
        Some(RootChangeStatus {
            fingerprint,
            former_until_ms: Some(ms),
            ..
        }) => format!(
            "{fingerprint}, former, counts until {}",
            instant_and_distance(*ms)
        ),
    }
}

fn sheet(status: &KeysStatus) -> String {
    let now_ms = now_ms();
    let known = facts(vec![
        ("root", status.fingerprint.clone()),
        ("root ends", instant_and_distance(status.root_not_after_ms)),
        ("second root", second_root(status.root_change.as_ref())),
        (
            "issuing CA ends",
            instant_and_distance(status.issuing_not_after_ms),
        ),
        (
            "manifest",
            format!(
                "{} of {}",
                status.manifest_serial,
                instant(status.manifest_issued_ms)
            ),
        ),
    ]);
    let envelope = |key: &EnvelopeKeyStatus| {
        vec![
            key.id.clone(),
            used_as(key.used_as).to_owned(),
            distance(key.not_after_ms, now_ms),
            key.revoked_ms.map_or_else(String::new, instant),
        ]
    };
    let tls = |key: &TlsKeyStatus| {
        let ends = key.certificate_not_after_ms;
        vec![
            key.pin.clone(),
            used_as(key.used_as).to_owned(),
            ends.map_or_else(String::new, |ms| distance(ms, now_ms)),
        ]
    };
    let envelope = list(
        &["envelope key", "use", "counts until", "revoked since"],
        status.envelope.iter().map(envelope).collect(),
        "",
    );
    let tls = list(
        &["TLS key", "use", "certificate ends"],
        status.tls.iter().map(tls).collect(),
        "",
    );
    let knows = |partner: &PartnerKnowledge| {
        let knows = match partner.manifest_serial {
            Some(serial) if serial == status.manifest_serial => "yes".to_owned(),
            Some(serial) => format!("not yet: {serial}"),
            None => "it has not said".to_owned(),
        };
        vec![partner.server.to_string(), knows]
    };
    let partners = list(
        &["partner", "knows this manifest"],
        status.partners.iter().map(knows).collect(),
        "",
    );
    let parts = [known, envelope, tls, partners];
    parts.map(|part| part.trim_end().to_owned()).join("\n\n")
}
