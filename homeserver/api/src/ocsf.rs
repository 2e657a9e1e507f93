//! Entries of the audit log as events of the Open Cybersecurity Schema Framework (OCSF), for programs that read those.
//!
//! Sign-ins are events of the class Authentication, what happens to accounts is Account Change, all else Entity
//! Management. Whatever an event is made of stands in the entry; nothing is read back from it. People are pseudonyms here
//! too.

use serde::Serialize;

use crate::admin::AuditEntry;

/// The version of the schema.
pub const VERSION: &str = "1.3.0";

const CATEGORY_UID: u32 = 3;
const CATEGORY: &str = "Identity & Access Management";
/// What an activity is that the class has no number for.
const OTHER: (u32, &str) = (99, "Other");

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event<'a> {
    activity_id: u32,
    activity_name: &'static str,
    actor: Actor<'a>,
    category_name: &'static str,
    category_uid: u32,
    class_name: &'static str,
    class_uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<Entity<'a>>,
    message: &'a str,
    metadata: Metadata<'a>,
    severity: &'static str,
    severity_id: u32,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    status_detail: &'a str,
    status_id: u32,
    time: u64,
    type_name: String,
    type_uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Actor<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    app_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct User<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    type_id: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Entity<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Metadata<'a> {
    event_code: &'a str,
    log_name: &'static str,
    log_provider: &'a str,
    product: Product<'a>,
    sequence: u64,
    uid: &'a str,
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Product<'a> {
    name: &'static str,
    vendor_name: &'static str,
    version: &'a str,
}

/// What an entry's action is in the schema.
struct Class {
    name: &'static str,
    uid: u32,
    activity: (u32, &'static str),
}

impl<'a> Event<'a> {
    /// The entry of the log of `server`, whose software has this version.
    #[must_use]
    pub fn of(entry: &'a AuditEntry, server: &'a str, software: &'a str) -> Self {
        let class = class(&entry.action);
        let (activity_id, activity_name) = class.activity;
        let concerned = User {
            name: &entry.subject,
            kind: "User",
            type_id: 1,
        };
        let (user, entity) = match class.uid {
            3004 => {
                let kind = entry.action.split('.').next().unwrap_or_default();
                let name = &entry.subject;
                (None, Some(Entity { name, kind }))
            }
            _ => (Some(concerned), None),
        };
        let (severity_id, severity) = severity(&entry.action);
        let (status_id, status) = match failed(&entry.action) {
            true => (2, "Failure"),
            false => (1, "Success"),
        };
        Self {
            activity_id,
            activity_name,
            actor: actor(&entry.actor),
            category_name: CATEGORY,
            category_uid: CATEGORY_UID,
            class_name: class.name,
            class_uid: class.uid,
            entity,
            message: &entry.action,
            metadata: Metadata {
                event_code: &entry.action,
                log_name: "audit",
                log_provider: server,
                product: Product {
                    name: "Entente homeserver",
                    vendor_name: "Entente",
                    version: software,
                },
                sequence: entry.number,
                uid: &entry.hash,
                version: VERSION,
            },
            severity,
            severity_id,
            status,
            status_detail: &entry.detail,
            status_id,
            time: entry.at_ms,
            type_name: format!("{}: {activity_name}", class.name),
            type_uid: class.uid * 100 + activity_id,
            user,
        }
    }

    /// Whether something was refused or has failed.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        self.status_id == 2
    }
}

fn class(action: &str) -> Class {
    let (what, act) = action.split_once('.').unwrap_or((action, ""));
    let has = |words: &[&str]| words.iter().any(|word| act.contains(word));
    let signing = match act {
        "signed-in" | "sign-in-refused" => Some((1, "Logon")),
        "signed-out" => Some((2, "Logoff")),
        _ => None,
    };
    if let ("administrator", Some(activity)) = (what, signing) {
        return Class {
            name: "Authentication",
            uid: 3002,
            activity,
        };
    }
    if matches!(what, "user" | "administrator") {
        let activity = match act {
            "created" => (1, "Create"),
            "password-changed" | "password-refused" => (3, "Password Change"),
            "password-reset" => (4, "Password Reset"),
            "deleted" => (6, "Delete"),
            _ => OTHER,
        };
        return Class {
            name: "Account Change",
            uid: 3001,
            activity,
        };
    }
    let activity = if failed(action) {
        OTHER
    } else if has(&["created", "made", "opened", "enrolled", "offered", "joined"]) {
        (1, "Create")
    } else if has(&["read", "exported"]) {
        (2, "Read")
    } else if has(&["deleted", "removed", "erased", "revoked", "forgotten"]) {
        (4, "Delete")
    } else if has(&[
        "changed",
        "amended",
        "renewed",
        "rotated",
        "resumed",
        "suspended",
    ]) {
        (3, "Update")
    } else {
        OTHER
    };
    Class {
        name: "Entity Management",
        uid: 3004,
        activity,
    }
}

fn failed(action: &str) -> bool {
    let words = [
        "refused",
        "limited",
        "fault",
        "contradicted",
        "failed",
        "given-up",
        "damaged",
        "conflict",
    ];
    words.iter().any(|word| action.ends_with(word))
}

fn severity(action: &str) -> (u32, &'static str) {
    if ["fault", "contradicted", "damaged"]
        .iter()
        .any(|word| action.ends_with(word))
    {
        (4, "High")
    } else if failed(action) {
        (3, "Medium")
    } else {
        (1, "Informational")
    }
}

fn actor(actor: &str) -> Actor<'_> {
    let (kind, type_id) = match actor.split_once(':').map(|(kind, _)| kind) {
        Some("admin" | "local") => ("Admin", 2),
        Some("device") => ("User", 1),
        Some(_) => ("Other", 99),
        None => {
            return Actor {
                app_name: Some("homeserver"),
                user: None,
            };
        }
    };
    Actor {
        app_name: None,
        user: Some(User {
            name: actor,
            kind,
            type_id,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(actor: &str, action: &str) -> AuditEntry {
        AuditEntry {
            number: 7,
            at_ms: 1_795_000_000_000,
            actor: actor.to_owned(),
            action: action.to_owned(),
            subject: "b.example".to_owned(),
            detail: "why".to_owned(),
            hash: "0a".to_owned(),
        }
    }

    /// Goal: the event has what the schema requires of its class, and everything that the entry says. Method: fixed JSON.
    #[test]
    fn an_event_in_full() {
        let entry = entry("admin:root", "peer.revoked");
        let event = serde_json::to_value(Event::of(&entry, "a.example", "0.1.0")).unwrap();
        let expected = serde_json::json!({
            "activity_id": 4, "activity_name": "Delete", "actor": {"user": {"name": "admin:root", "type": "Admin", "type_id": 2}},
            "category_name": "Identity & Access Management", "category_uid": 3, "class_name": "Entity Management",
            "class_uid": 3004, "entity": {"name": "b.example", "type": "peer"}, "message": "peer.revoked",
            "metadata": {
                "event_code": "peer.revoked", "log_name": "audit", "log_provider": "a.example",
                "product": {"name": "Entente homeserver", "vendor_name": "Entente", "version": "0.1.0"},
                "sequence": 7, "uid": "0a", "version": "1.3.0",
            },
            "severity": "Informational", "severity_id": 1, "status": "Success", "status_detail": "why", "status_id": 1,
            "time": 1_795_000_000_000_u64, "type_name": "Entity Management: Delete", "type_uid": 300_404,
        });
        assert_eq!(event, expected);
    }

    /// Goal: each action has its class, activity, severity and outcome. Method: a table.
    #[test]
    fn classes_of_actions() {
        for (actor, action, type_uid, severity_id, status_id) in [
            ("admin:root", "administrator.signed-in", 300_201, 1, 1),
            ("system", "administrator.sign-in-refused", 300_201, 3, 2),
            ("admin:root", "administrator.signed-out", 300_202, 1, 1),
            ("local:0", "user.created", 300_101, 1, 1),
            ("local:0", "user.deleted", 300_106, 1, 1),
            ("device:01", "user.password-refused", 300_103, 3, 2),
            ("local:0", "user.changed", 300_199, 1, 1),
            ("peer:b.example", "message.refused", 300_499, 3, 2),
            ("peer:b.example", "audit-log.fault", 300_499, 4, 2),
            ("system", "keys.rotated", 300_403, 1, 1),
            ("local:0", "report.read", 300_402, 1, 1),
            ("system", "nonsense", 300_499, 1, 1),
        ] {
            let entry = entry(actor, action);
            let event = Event::of(&entry, "a.example", "0.1.0");
            let found = (event.type_uid, event.severity_id, event.status_id);
            assert_eq!(found, (type_uid, severity_id, status_id), "{action}");
            assert_eq!(event.is_failure(), status_id == 2);
            assert_eq!(event.actor.user.is_none(), actor == "system");
            assert!(event.user.is_some() != event.entity.is_some());
        }
    }
}
