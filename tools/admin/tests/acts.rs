//! The real `hsctl` against a fake admin API, command by command: what is asked, what a person reads, and that
//! `--json` is the API's own answer on one line, or `{"done": …}` where there is none.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod fake_admin;

use fake_admin::FakeAdmin;
use serde_json::{Value, json};

const DEVICE: &str = "00112233445566778899aabbccddeeff";

fn user(user_type: &str, suspended: bool) -> Value {
    json!({
        "address": "alice@a.example", "account": "0".repeat(32), "user_type": user_type, "suspended": suspended,
        "devices": 1,
        "device_list": [{"device": DEVICE, "name": "laptop", "enrolled_ms": 0, "not_after_ms": 0,
                         "came": "first"}],
        "created_ms": 1_795_342_830_000_u64,
    })
}

fn peer(state: &str) -> Value {
    json!({
        "server": "b.example", "state": state, "reachable": {"answers": false, "reason": "no route"}, "expires_ms": null,
        "fingerprint": "00ff 1234", "endpoints": ["127.0.0.1:8448"],
        "lines": ["Everybody may exchange messages."], "reason": null, "proposal": null, "own_proposal": null,
        "warnings": [],
    })
}

/// One command: its line, the one request that it makes with its body, the answer, and what a person must read.
struct Case<'a> {
    line: &'a str,
    asks: &'a str,
    body: Value,
    answer: (u16, Value),
    reads: &'a [&'a str],
}

impl Case<'_> {
    async fn holds(self, fake: &FakeAdmin) {
        let Self { line, asks, .. } = self;
        let human = fake.hsctl(line).await;
        assert_eq!(human.code, 0, "{line}: {human:?}");
        assert_eq!(human.stderr, "", "{line}");
        for text in self.reads {
            assert!(human.stdout.contains(text), "{line}: {text}: {human:?}");
        }
        let asked = fake.asked().pop().unwrap();
        assert_eq!(
            (asked.line.as_str(), &asked.body),
            (asks, &self.body),
            "{line}"
        );

        let program = fake.hsctl(&format!("{line} --json")).await;
        assert_eq!(program.code, 0, "{line}: {program:?}");
        assert_eq!(program.stdout.lines().count(), 1, "{line}: {program:?}");
        let printed: Value = serde_json::from_str(&program.stdout).unwrap();
        match self.answer.1 {
            Value::Null => assert!(printed["done"].is_string(), "{line}: {printed}"),
            answer => assert_eq!(printed, answer, "{line}"),
        }
        assert_eq!(fake.asked().len(), 2, "{line} asks once");
    }
}

async fn hold(cases: Vec<Case<'_>>) {
    for case in cases {
        let (status, answer) = case.answer.clone();
        let fake = FakeAdmin::new(&[(case.asks, status, answer)]);
        case.holds(&fake).await;
    }
}

/// Goal: what is done to a user reaches the user's path with what it says, and reads in words; by every command
/// but `create` and `delete`.
#[tokio::test]
async fn users_and_devices() {
    let password = json!({
        "address": "alice@a.example", "account": "0".repeat(32), "user_type": "standard",
        "password": "correct horse",
    });
    let remove = format!("device remove alice {DEVICE} --yes");
    let removed = format!("DELETE /admin/v1/users/alice/devices/{DEVICE}");
    hold(vec![
        Case {
            line: "user show alice",
            asks: "GET /admin/v1/users/alice",
            body: Value::Null,
            answer: (200, user("standard", false)),
            reads: &[
                "alice@a.example",
                "active",
                "2026-11-22 10:20:30 UTC",
                DEVICE,
                "laptop",
            ],
        },
        Case {
            line: "user change alice --type officer",
            asks: "PATCH /admin/v1/users/alice",
            body: json!({"user_type": "officer", "suspended": null}),
            answer: (200, user("officer", false)),
            reads: &["officer"],
        },
        Case {
            line: "user suspend alice",
            asks: "PATCH /admin/v1/users/alice",
            body: json!({"user_type": null, "suspended": true}),
            answer: (200, user("standard", true)),
            reads: &["suspended"],
        },
        Case {
            line: "user resume alice",
            asks: "PATCH /admin/v1/users/alice",
            body: json!({"user_type": null, "suspended": false}),
            answer: (200, user("standard", false)),
            reads: &["active"],
        },
        Case {
            line: "user reset-password alice",
            asks: "POST /admin/v1/users/alice/password",
            body: json!({"password": null}),
            answer: (200, password),
            reads: &["alice@a.example has a new password.", "correct horse"],
        },
        Case {
            line: &remove,
            asks: &removed,
            body: Value::Null,
            answer: (204, Value::Null),
            reads: &[DEVICE, "is removed"],
        },
    ])
    .await;
}

/// Goal: a peer is shown with its state, link, fingerprint and terms, and what waits or was given up reads as a
/// list; by each command.
#[tokio::test]
async fn peers_and_their_mail() {
    let waiting = json!({"destinations": [{
        "server": "b.example", "waiting": 3, "waiting_bytes": 2048, "oldest_ms": 0, "last_error": "no route",
        "next_attempt_ms": null, "held_lanes": 2, "acknowledged": 7,
    }]});
    let dead = json!({"dead_letters": [{
        "at_ms": 1_795_342_830_000_u64, "server": "b.example", "room": null, "device": DEVICE,
        "refusal": {"code": "expired", "reason": "its time ran out"},
    }], "counted": []});
    hold(vec![
        Case {
            line: "peer show b.example",
            asks: "GET /admin/v1/peers/b.example",
            body: Value::Null,
            answer: (200, peer("active")),
            reads: &[
                "does not answer: no route",
                "00ff 1234",
                "127.0.0.1:8448",
                "- Everybody may exchange messages.",
            ],
        },
        Case {
            line: "outbox list",
            asks: "GET /admin/v1/outbox",
            body: Value::Null,
            answer: (200, waiting),
            reads: &[
                "WAITING",
                "b.example",
                "3",
                "no route",
                "HELD LANES",
                "`hsctl outbox renumber b.example` sends what is held",
            ],
        },
        Case {
            line: "outbox list",
            asks: "GET /admin/v1/outbox",
            body: Value::Null,
            answer: (200, json!({"destinations": []})),
            reads: &["Nothing waits"],
        },
        Case {
            line: "dead-letters --limit 5",
            asks: "GET /admin/v1/dead-letters?limit=5",
            body: Value::Null,
            answer: (200, dead),
            reads: &[
                "2026-11-22 10:20:30 UTC",
                "b.example",
                "expired",
                "its time ran out",
            ],
        },
        Case {
            line: "dead-letters",
            asks: "GET /admin/v1/dead-letters?limit=100",
            body: Value::Null,
            answer: (200, json!({"dead_letters": [], "counted": []})),
            reads: &["Nothing was given up."],
        },
    ])
    .await;
}

/// Goal: a document is explained and a countersignature is taken as it stands in its file; by each command.
#[tokio::test]
async fn documents() {
    let summary = json!({
        "kind": "countersignature", "from": "a.example", "to": "b.example", "fingerprint": "00ff 1234",
        "lines": ["Messages live from 1 minute to 30 days."],
    });
    let fake = FakeAdmin::new(&[
        ("POST /admin/v1/peers/inspections", 200, summary),
        ("POST /admin/v1/peers/activations", 200, peer("active")),
    ]);
    let file = fake.file("document");
    std::fs::write(&file, "DOCUMENT\n").unwrap();
    let inspected = fake
        .hsctl(&format!("peer inspect {}", file.display()))
        .await;
    assert_eq!(inspected.code, 0, "{inspected:?}");
    assert!(
        inspected.stdout.contains("- Messages live"),
        "{inspected:?}"
    );
    let activated = fake
        .hsctl(&format!("peer activate {}", file.display()))
        .await;
    assert_eq!(activated.code, 0, "{activated:?}");
    assert!(activated.stdout.contains("active"), "{activated:?}");
    let bodies: Vec<Value> = fake.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!(
        bodies,
        [
            json!({"document": "DOCUMENT\n"}),
            json!({"document": "DOCUMENT\n"})
        ]
    );
}

/// Goal: a script can tell a document that can't be read here from one that the homeserver does not take, as `--help`
/// and the how-to say. Method: a file that is not there, one that is no text, and one that is refused.
#[tokio::test]
async fn documents_that_can_not_be_read() {
    let refusal = json!({
        "type": "urn:entente:problem:invalid", "title": "Not acceptable", "status": 400,
        "detail": "the document was damaged on its way",
    });
    let fake = FakeAdmin::new(&[("POST /admin/v1/peers/inspections", 400, refusal)]);
    let missing = fake.hsctl("peer inspect /nonexistent").await;
    assert_eq!(missing.code, 78, "{missing:?}");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("offer.txt");
    let inspect = format!("peer inspect {}", file.display());
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    let no_text = fake.hsctl(&inspect).await;
    assert_eq!(no_text.code, 78, "{no_text:?}");
    assert!(no_text.stderr.contains("can't be read"), "{no_text:?}");
    assert!(fake.asked().is_empty(), "the homeserver is not asked");
    std::fs::write(&file, "DOCUMENT\n").unwrap();
    let refused = fake.hsctl(&inspect).await;
    assert_eq!(refused.code, 1, "{refused:?}");
}

/// Goal: words are passed on however they are separated, for the homeserver to judge; by accepting an offer.
#[tokio::test]
async fn spoken_fingerprints() {
    let words = ["ability"; 24];
    for separator in ["-", ":", ","] {
        let fake = FakeAdmin::new(&[
            (
                "POST /admin/v1/peers/inspections",
                200,
                json!({
                    "kind": "offer", "from": "a.example", "to": "b.example", "fingerprint": "00ff 1234",
                    "lines": [],
                }),
            ),
            (
                "POST /admin/v1/peers/acceptances",
                201,
                json!({"document": "ACCEPTANCE"}),
            ),
        ]);
        let file = fake.file("document");
        std::fs::write(&file, "DOCUMENT").unwrap();
        let spoken = words.join(separator);
        let line = format!("peer accept {} --fingerprint {spoken}", file.display());
        let outcome = fake.hsctl(&line).await;
        assert_eq!(outcome.code, 0, "{outcome:?}");
        assert_eq!(fake.asked()[1].body["fingerprint"], spoken);
    }
}

/// Goal: a reader that has seen enough ends the program quietly; by completions into a pipe that is closed.
#[test]
fn nobody_reads() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hsctl"))
        .args(["completions", "bash"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
