//! The keys as an administrator is shown them.

use federation_proto::fingerprint::Fingerprint;
use homeserver_api::keys::{EnvelopeKeyStatus, KeyUse, KeysStatus, RootChangeStatus, TlsKeyStatus};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::keys::{Keys, Second, Stage, TlsKey};

impl Keys {
    /// Every key that partners may meet, and until when; what partners know, they say elsewhere.
    pub fn status(&self, now_ms: u64) -> KeysStatus {
        let state = self.state.load();
        let body = state.manifest.body();
        let mut envelope: Vec<_> = body
            .envelope_keys
            .iter()
            .map(|entry| EnvelopeKeyStatus {
                id: entry.id().to_string(),
                used_as: if entry.revoked_at(now_ms) {
                    KeyUse::Revoked
                } else if entry.public == *state.envelope.key.public() {
                    KeyUse::Current
                } else if entry.public == *state.envelope_next.key.public() {
                    KeyUse::Next
                } else {
                    KeyUse::Former
                },
                not_before_ms: entry.not_before_ms,
                not_after_ms: entry.not_after_ms,
                revoked_ms: entry.revoked_ms,
            })
            .collect();
        envelope.sort_by_key(|key| (key.used_as, std::cmp::Reverse(key.not_after_ms)));
        let of = |key: &TlsKey, used_as| TlsKeyStatus {
            pin: hex::encode(key.pin()),
            used_as,
            certificate_not_after_ms: Some(not_after_ms(&key.leaf)),
        };
        let mut tls = vec![
            of(&state.tls_current, KeyUse::Current),
            of(&state.tls_backup, KeyUse::Next),
        ];
        tls.extend(state.tls_former.iter().rev().map(|pin| TlsKeyStatus {
            pin: hex::encode(pin),
            used_as: KeyUse::Former,
            certificate_not_after_ms: None,
        }));
        KeysStatus {
            fingerprint: Fingerprint::of_root(&state.root).to_string(),
            root_not_after_ms: not_after_ms(&state.root),
            issuing_not_after_ms: not_after_ms(&state.issuing.certificate),
            manifest_serial: body.serial,
            manifest_issued_ms: body.issued_ms,
            envelope,
            tls,
            root_change: state.second.as_ref().map(shown_change),
            partners: Vec::new(),
        }
    }
}

fn shown_change(second: &Second) -> RootChangeStatus {
    let fingerprint = Fingerprint::of_root(&second.certificates.root);
    RootChangeStatus {
        fingerprint: fingerprint.to_string(),
        words: fingerprint.words().join(" "),
        former_until_ms: match second.stage {
            Stage::Next => None,
            Stage::Former { until_ms } => Some(until_ms),
        },
    }
}

/// The end of a certificate's validity; 0 for what is none.
fn not_after_ms(certificate: &CertificateDer<'_>) -> u64 {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return 0;
    };
    let seconds = certificate.validity().not_after.timestamp();
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}
