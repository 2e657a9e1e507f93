//! The real `hsctl` against a fake admin API: what it asks, prints and ends with.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod fake_admin;

use fake_admin::FakeAdmin;
use homeserver_api::policy::UserTypePolicy;
use serde_json::{Value, json};

fn summary() -> Value {
    json!({
        "kind": "offer", "from": "a.example", "to": "b.example", "fingerprint": "00ff 1234",
        "lines": ["Messages live from 1 minute to 30 days."],
    })
}

fn peer(state: &str) -> Value {
    json!({
        "server": "b.example", "state": state, "reachable": {"answers": true}, "expires_ms": null,
        "fingerprint": "00ff 1234", "endpoints": ["127.0.0.1:8448"],
        "lines": ["Everybody may exchange messages."], "reason": "drill",
    })
}

fn problem(status: u16, code: &str, detail: &str) -> Value {
    json!({
        "type": format!("urn:entente:problem:{code}"), "title": code.replace('-', " "),
        "status": status, "detail": detail,
    })
}

/// Goal: status reads as facts for people and as the API's own JSON for programs.
#[tokio::test]
async fn status() {
    let answer = json!({
        "server": "a.example", "version": "0.1.0", "root_sha256": "ab", "root_words": "ability abstract",
        "server_time_ms": 1_795_342_830_000_u64,
        "accounts": 3, "devices": 4, "sessions": 2, "store_keys": null, "warnings": [],
    });
    let fake = FakeAdmin::new(&[("GET /admin/v1/server", 200, answer.clone())]);
    let human = fake.hsctl("status").await;
    assert_eq!(human.code, 0, "{human:?}");
    assert!(
        human.stdout.contains("server         a.example\n"),
        "{human:?}"
    );
    assert!(
        human.stdout.contains("read aloud     ability abstract\n"),
        "{human:?}"
    );
    assert!(
        human.stdout.contains("2026-11-22 10:20:30 UTC"),
        "{human:?}"
    );
    let program = fake.hsctl("status --json").await;
    assert_eq!(
        serde_json::from_str::<Value>(&program.stdout).unwrap(),
        answer
    );
    assert_eq!(program.stdout.lines().count(), 1);
}

/// Goal: a new account is asked for as the flags say, and its password is shown once.
#[tokio::test]
async fn user_create() {
    let created = json!({
        "address": "alice@a.example", "account": "00".repeat(16), "user_type": "officer",
        "password": "correct horse",
    });
    let fake = FakeAdmin::new(&[("POST /admin/v1/users", 201, created)]);
    let outcome = fake.hsctl("user create alice --type officer").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("correct horse"));
    std::fs::write(fake.file("password"), "battery staple\n").unwrap();
    let line = format!(
        "user create bob --password-file {}",
        fake.file("password").display()
    );
    assert_eq!(fake.hsctl(&line).await.code, 0);
    let bodies: Vec<Value> = fake.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!(
        bodies,
        [
            json!({"handle": "alice", "user_type": "officer", "password": null}),
            json!({"handle": "bob", "user_type": "standard", "password": "battery staple"}),
        ]
    );
}

/// Goal: `user-type set` changes what is named, keeps the rest, and a name can't leave its path.
#[tokio::test]
async fn user_type_set() {
    let mut policy = serde_json::to_value(UserTypePolicy::default()).unwrap();
    policy["ttl"] = json!({"min_seconds": 60, "max_seconds": 600, "default_seconds": 300});
    policy["burn"] = json!({"min_seconds": 0, "max_seconds": 60, "default_seconds": 0});
    policy["external"] = json!("all-peers");
    policy["devices_max"] = json!(2);
    let user_type = json!({"name": "night/shift", "policy": policy});
    let fake = FakeAdmin::new(&[
        (
            "GET /admin/v1/user-types",
            200,
            json!({"user_types": [user_type]}),
        ),
        ("PUT /admin/v1/user-types/night%2Fshift", 200, user_type),
    ]);
    let outcome = fake
        .hsctl("user-type set night/shift --ttl-max 2m --external none")
        .await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let mut expected = policy;
    expected["ttl"] = json!({"min_seconds": 60, "max_seconds": 120, "default_seconds": 120});
    expected["external"] = json!("none");
    assert_eq!(fake.asked()[1].body, expected);
}

/// Goal: an offer states what the flags say and lands in its file.
#[tokio::test]
async fn peer_offer() {
    let fake = FakeAdmin::new(&[(
        "POST /admin/v1/peers/offers",
        201,
        json!({"document": "-----BEGIN ENTENTE OFFER-----\n-----END ENTENTE OFFER-----\n"}),
    )]);
    let file = fake.file("offer.txt");
    let line = format!(
        "peer offer b.example --ttl-max 1h --outbound message --valid-days 30 -o {}",
        file.display()
    );
    let outcome = fake.hsctl(&line).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("hsctl peer accept"), "{outcome:?}");
    assert_eq!(
        std::fs::read_to_string(file).unwrap(),
        "-----BEGIN ENTENTE OFFER-----\n-----END ENTENTE OFFER-----\n"
    );
    let body = &fake.asked()[0].body;
    assert_eq!(body["server"], "b.example");
    assert_eq!(body["terms"]["ttl"]["max_seconds"], 3600);
    assert_eq!(
        body["terms"]["outbound"],
        json!([{"operation": "message", "user_types": []}])
    );
    assert_eq!(body["terms"]["inbound"].as_array().unwrap().len(), 4);
    assert_eq!(body["terms"]["valid_days"], 30);
}

/// Goal: a document of the wrong kind, and one that can't be taken, is neither shown for comparison nor sent; by
/// an offer that is countersigned, and one's own that is accepted.
#[tokio::test]
async fn wrong_documents_are_not_compared() {
    let mut own = summary();
    own["obstacle"] = json!("this offer is your own");
    for (verb, summary, said) in [
        ("countersign", summary(), "`hsctl peer accept` takes it"),
        ("accept", own, "this offer is your own"),
    ] {
        let fake = FakeAdmin::new(&[("POST /admin/v1/peers/inspections", 200, summary)]);
        std::fs::write(fake.file("document"), "DOCUMENT").unwrap();
        let command = format!("peer {verb} {}", fake.file("document").display());
        let outcome = fake.hsctl(&command).await;
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains(said), "{outcome:?}");
        assert!(!outcome.stderr.contains("00ff 1234"), "{outcome:?}");
        assert_eq!(fake.asked().len(), 1);
    }
}

/// Goal: neither an acceptance nor a countersignature is asked for unless the fingerprint was
/// compared: none given and no terminal, a wrong one, the right one.
#[tokio::test]
async fn fingerprints_decide() {
    for (kind, verb, made) in [
        ("offer", "accept", "ACCEPTANCE"),
        ("acceptance", "countersign", "COUNTERSIGNATURE"),
    ] {
        let mut summary = summary();
        summary["kind"] = json!(kind);
        let fake = FakeAdmin::new(&[
            ("POST /admin/v1/peers/inspections", 200, summary),
            (
                "POST /admin/v1/peers/acceptances",
                201,
                json!({"document": "ACCEPTANCE"}),
            ),
            (
                "POST /admin/v1/peers/countersignatures",
                201,
                json!({"document": "COUNTERSIGNATURE"}),
            ),
        ]);
        std::fs::write(fake.file("document"), "DOCUMENT").unwrap();
        let before = fake.asked().len();
        let command = format!("peer {verb} {}", fake.file("document").display());
        let outcome = fake.hsctl(&command).await;
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(outcome.stderr.contains("00ff 1234"), "{outcome:?}");
        assert!(outcome.stderr.contains("--fingerprint"), "{outcome:?}");
        let outcome = fake
            .hsctl(&format!("{command} --fingerprint 00ff1235"))
            .await;
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let lines: Vec<String> = fake
            .asked()
            .into_iter()
            .skip(before)
            .map(|asked| asked.line)
            .collect();
        assert_eq!(lines, ["POST /admin/v1/peers/inspections"; 2], "{verb}");

        let outcome = fake
            .hsctl(&format!("{command} --fingerprint 00FF1234"))
            .await;
        assert_eq!(
            (outcome.code, outcome.stdout.trim()),
            (0, made),
            "{outcome:?}"
        );
        let last = fake.asked().pop().unwrap();
        assert_eq!(last.body["fingerprint"], "00ff 1234");
        assert_eq!(last.body["document"], "DOCUMENT");
    }
}

/// Goal: what is done for good wants `--yes` where nobody can be asked.
#[tokio::test]
async fn for_good() {
    let fake = FakeAdmin::new(&[
        ("DELETE /admin/v1/users/alice", 204, Value::Null),
        (
            "POST /admin/v1/peers/b.example/revoke",
            200,
            peer("revoked"),
        ),
    ]);
    for line in ["user delete alice", "peer revoke b.example --reason over"] {
        let outcome = fake.hsctl(line).await;
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(outcome.stderr.contains("--yes"), "{outcome:?}");
        assert_eq!(fake.hsctl(&format!("{line} --yes")).await.code, 0);
    }
    assert_eq!(fake.asked().len(), 2);
    assert_eq!(fake.asked()[1].body, json!({"reason": "over"}));
}

/// Goal: each verb on a peer reaches its path, and the answer reads in words.
#[tokio::test]
async fn peer_verbs() {
    let fake = FakeAdmin::new(&[
        (
            "GET /admin/v1/peers",
            200,
            json!({"peers": [peer("active")]}),
        ),
        (
            "POST /admin/v1/peers/b.example/suspend",
            200,
            peer("suspended"),
        ),
        ("POST /admin/v1/peers/b.example/resume", 200, peer("active")),
        ("POST /admin/v1/outbox/b.example/retry", 202, Value::Null),
        (
            "GET /admin/v1/outbox/b.example/receipts",
            200,
            json!({"receipts": [{
                "direction": "given", "at_ms": 1, "link_epoch": 2, "transaction": "00ff",
                "taken": 3, "refused": 0, "deferred": 1, "lanes": 1, "proof": "AA==",
            }]}),
        ),
        ("POST /admin/v1/outbox/b.example/renumber", 202, Value::Null),
    ]);
    let listed = fake.hsctl("peer list").await;
    assert!(
        listed.stdout.contains("b.example  active     answers"),
        "{listed:?}"
    );
    let suspended = fake.hsctl("peer suspend b.example --reason drill").await;
    assert!(
        suspended.stdout.contains("agreement    suspended"),
        "{suspended:?}"
    );
    assert!(
        suspended
            .stdout
            .contains("- Everybody may exchange messages."),
        "{suspended:?}"
    );
    assert_eq!(fake.hsctl("peer resume b.example").await.code, 0);
    assert_eq!(fake.hsctl("outbox retry b.example").await.code, 0);
    let receipts = fake.hsctl("outbox receipts b.example").await;
    assert!(receipts.stdout.contains("the peer"), "{receipts:?}");
    assert!(receipts.stdout.contains("00ff"), "{receipts:?}");
    assert_eq!(fake.hsctl("outbox renumber b.example --yes").await.code, 0);
}

/// Goal: a rotation names the key that it replaces, a revocation its key and since when, and nothing is revoked
/// unasked; by a homeserver that has two keys of each kind.
#[tokio::test]
async fn keys() {
    let key = |id: &str, used_as: &str| {
        json!({"id": id, "used_as": used_as, "not_before_ms": 0,
               "not_after_ms": 1_795_000_000_000_u64, "revoked_ms": null})
    };
    let status = json!({
        "fingerprint": "0011 2233", "root_not_after_ms": 1, "issuing_not_after_ms": 2,
        "manifest_serial": 7, "manifest_issued_ms": 4,
        "envelope": [key("aaaa", "current"), key("bbbb", "next")],
        "tls": [{"pin": "cccc", "used_as": "current", "certificate_not_after_ms": 1}],
        "partners": [{"server": "b.example", "manifest_serial": 6}],
    });
    let fake = FakeAdmin::new(&[
        ("GET /admin/v1/keys", 200, status.clone()),
        ("POST /admin/v1/keys/envelope/rotate", 200, status.clone()),
        ("POST /admin/v1/keys/tls/rotate", 200, status.clone()),
        ("POST /admin/v1/keys/envelope/revoke", 200, status.clone()),
        ("POST /admin/v1/keys/tls/revoke", 200, status),
    ]);
    let shown = fake.hsctl("keys show").await;
    for part in ["aaaa", "in use", "bbbb", "next", "7 of 1970", "not yet: 6"] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
    let refused = fake.hsctl("keys revoke tls cccc").await;
    assert_eq!(refused.code, 2, "{refused:?}");
    let refused = fake.hsctl("keys revoke tls cccc --since 1h --yes").await;
    assert_eq!(refused.code, 2, "{refused:?}");
    for line in [
        "keys rotate envelope",
        "keys rotate tls",
        "keys revoke envelope all --yes",
        "keys revoke envelope aaaa --since 1h --yes",
        "keys revoke tls cccc --yes",
    ] {
        let done = fake.hsctl(line).await;
        assert_eq!(done.code, 0, "{done:?}");
    }
    let asked = fake.asked();
    let bodies: Vec<_> = asked
        .iter()
        .filter(|asked| asked.line.starts_with("POST"))
        .map(|asked| asked.body.clone())
        .collect();
    assert_eq!(bodies[0], json!({"replaces": "aaaa"}));
    assert_eq!(bodies[1], json!({"replaces": "cccc"}));
    assert_eq!(bodies[2], json!({"key": null, "since_ms": null}));
    assert_eq!(bodies[3]["key"], json!("aaaa"));
    assert!(bodies[3]["since_ms"].is_u64());
    assert_eq!(bodies[4], json!({"pin": "cccc"}));
}

/// Goal: an error is a sentence with its code, an exit code that says whether waiting helps, and
/// under --json the problem itself; by a table of answers.
#[tokio::test]
async fn errors() {
    for (status, code, exit) in [
        (404, "unknown-user", 1),
        (409, "exists", 1),
        (503, "starting", 75),
        (429, "rate-limited", 75),
    ] {
        let fake = FakeAdmin::new(&[(
            "GET /admin/v1/users/zoe",
            status,
            problem(status, code, "There is no zoe: check the handle."),
        )]);
        let human = fake.hsctl("user show zoe").await;
        assert_eq!(human.code, exit, "{human:?}");
        assert_eq!(human.stdout, "");
        assert_eq!(
            human.stderr,
            format!("error: There is no zoe: check the handle. [{code}]\n")
        );
        let program = fake.hsctl("user show zoe --json").await;
        let told: Value = serde_json::from_str(&program.stderr).unwrap();
        assert_eq!(told["type"], format!("urn:entente:problem:{code}"));
    }
}

/// Goal: a homeserver that is not there is "not now"; a file that is not there is bad
/// configuration; a wrong line is usage.
#[tokio::test]
async fn exit_codes() {
    let nowhere = fake_admin::hsctl(&["--socket", "/nonexistent/admin.sock"], "status").await;
    assert_eq!(nowhere.code, 75, "{nowhere:?}");
    assert!(
        nowhere.stderr.contains("start the homeserver"),
        "{nowhere:?}"
    );
    let fake = FakeAdmin::new(&[]);
    let outcome = fake
        .hsctl("peer offer b.example --terms /nonexistent")
        .await;
    assert_eq!(outcome.code, 78, "{outcome:?}");
    assert_eq!(fake.hsctl("status --colour").await.code, 2);
    let unexplained = fake.hsctl("status").await;
    assert_eq!(unexplained.code, 1, "{unexplained:?}");
    assert!(unexplained.stderr.contains("404"), "{unexplained:?}");
}

/// Goal: the audit log is read page by page to its end, one JSON value a line, oldest first.
#[tokio::test]
async fn audit_pages() {
    let entry = |number: u64| {
        json!({
            "number": number, "at_ms": 0, "actor": "local:0", "action": "user.created",
            "subject": "alice@a.example", "detail": "", "hash": "00",
        })
    };
    let fake = FakeAdmin::new(&[
        (
            "GET /admin/v1/audit?limit=1000&after=4",
            200,
            json!({"entries": [entry(5), entry(6)], "next_after": 6}),
        ),
        (
            "GET /admin/v1/audit?limit=1000&after=6",
            200,
            json!({"entries": [entry(7)], "next_after": null}),
        ),
    ]);
    let outcome = fake.hsctl("audit --after 4 --json").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let numbers: Vec<Value> = outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["number"].clone())
        .collect();
    assert_eq!(numbers, [5, 6, 7]);
}

/// Goal: what is looked for goes into each request, a page without entries is not the end, and people are shown by address where
/// the homeserver knows them, to programs as the log has them. Method: an empty page and one with an entry.
#[tokio::test]
async fn audit_search() {
    let person = format!("person:{}", "1f".repeat(16));
    let found = json!({
        "number": 700, "at_ms": 0, "actor": "local:0", "action": "user.created",
        "subject": person, "detail": "", "hash": "00",
    });
    let people = json!({ person.as_str(): "alice@a.example" });
    let fake = FakeAdmin::new(&[
        (
            "GET /admin/v1/audit?limit=1000&action=user&subject=alice%40a.example",
            200,
            json!({"entries": [], "people": {}, "next_after": 500}),
        ),
        (
            "GET /admin/v1/audit?limit=1000&after=500&action=user&subject=alice%40a.example",
            200,
            json!({"entries": [found], "people": people, "next_after": null}),
        ),
    ]);
    let line = "audit --action user --subject alice@a.example";
    let human = fake.hsctl(line).await;
    assert_eq!(human.code, 0, "{human:?}");
    assert!(
        human.stdout.contains("user.created  alice@a.example"),
        "{human:?}"
    );
    let program = fake.hsctl(&format!("{line} --json")).await;
    let entry: Value = serde_json::from_str(program.stdout.trim()).unwrap();
    assert_eq!(entry["subject"], person);
}

/// Goal: what the log forgets is asked for once more, and a proof that does not lead to the head is not shown. Method: a
/// question without a terminal, and a proof with a wrong path.
#[tokio::test]
async fn audit_proofs_are_checked() {
    let head = json!({"server": "a.example", "size": 2, "root": "0a".repeat(32), "at_ms": 0, "signed": ""});
    let entry = json!({
        "number": 1, "at_ms": 0, "actor": "local:0", "action": "user.created", "subject": "room", "detail": "",
        "hash": "00",
    });
    let proof = json!({"entry": entry, "size": 2, "path": ["0b".repeat(32)], "head": head});
    let fake = FakeAdmin::new(&[("GET /admin/v1/audit/entries/1", 200, proof)]);
    let refused = fake.hsctl("audit proof 1").await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("does not lead to the head"),
        "{refused:?}"
    );
    let unasked = fake.hsctl("audit erase zoe@b.example").await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
    assert!(unasked.stderr.contains("--yes"), "{unasked:?}");
}

/// Goal: completions need no homeserver.
#[tokio::test]
async fn completions() {
    let outcome = fake_admin::hsctl(&[], "completions bash").await;
    assert_eq!(outcome.code, 0);
    assert!(outcome.stdout.contains("user-type"), "{outcome:?}");
}

fn charter_summary() -> Value {
    json!({
        "consortium": "09".repeat(16), "name": "Relief", "serial": 2, "fingerprint": "00ff 1234",
        "words": "abandon zoo", "expires_ms": 4_000_000_000_000_u64,
        "lines": ["It makes an agreement between any two."],
        "members": [{
            "server": "b.example", "fingerprint": "11", "signed": true, "peer": "revoked",
            "lines": ["b.example is reached at b.example:8448."],
            "changes": ["widens: \u{ab}No files.\u{bb} becomes \u{ab}Files of up to 1 GiB.\u{bb}"],
        }],
        "left_out": [{"server": "d.example", "expires_ms": 4_000_000_000_000_u64}],
    })
}

/// Goal: a charter is made of the members' files and of the flags, or of the former charter's terms when no
/// flag states any; by the requests that reach the homeserver.
#[tokio::test]
async fn consortium_new() {
    let document = json!({"document": "-----BEGIN ENTENTE CHARTER-----"});
    let fake = FakeAdmin::new(&[("POST /admin/v1/consortia/charters", 201, document)]);
    for name in ["b.txt", "former.txt"] {
        std::fs::write(fake.file(name), name).unwrap();
    }
    let path = |name: &str| fake.file(name).display().to_string();
    let out = path("charter.txt");
    let line = format!(
        "consortium new Relief --member {} --ttl-max 1h -o {out}",
        path("b.txt")
    );
    let outcome = fake.hsctl(&line).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("consortium sign"), "{outcome:?}");
    assert!(std::fs::read_to_string(&out).unwrap().contains("CHARTER"));
    let line = format!(
        "consortium new --former {} --without c.example",
        path("former.txt")
    );
    assert_eq!(fake.hsctl(&line).await.code, 0);
    let asked = fake.asked();
    assert_eq!(asked[0].body["introductions"], json!(["b.txt"]));
    assert_eq!(asked[0].body["terms"]["ttl"]["max_seconds"], json!(3600));
    assert_eq!(asked[1].body["former"], json!("former.txt"));
    assert_eq!(asked[1].body["terms"], Value::Null);
    assert_eq!(asked[1].body["without"], json!(["c.example"]));
}

/// Goal: nothing is signed that nobody confirmed, what was read aloud goes to the homeserver as it is, and
/// the charter shows its members; by signing without a terminal, with words, and showing.
#[tokio::test]
async fn consortium_sign() {
    let document = json!({"document": "-----BEGIN ENTENTE CHARTER-----"});
    let fake = FakeAdmin::new(&[
        (
            "POST /admin/v1/consortia/inspections",
            200,
            charter_summary(),
        ),
        ("POST /admin/v1/consortia/signatures", 201, document),
    ]);
    std::fs::write(fake.file("charter.txt"), "charter").unwrap();
    let file = fake.file("charter.txt").display().to_string();
    let outcome = fake.hsctl(&format!("consortium sign {file}")).await;
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("abandon zoo"), "{outcome:?}");
    assert_eq!(fake.asked().len(), 1);
    let line = format!("consortium sign {file} --fingerprint abandon-zoo");
    assert_eq!(fake.hsctl(&line).await.code, 0);
    let signed = fake.asked().pop().unwrap().body;
    assert_eq!(
        signed,
        json!({"document": "charter", "fingerprint": "abandon-zoo"})
    );
    let shown = fake.hsctl(&format!("consortium show {file}")).await;
    for part in [
        "b.example: has signed; our agreement with it is revoked",
        "b.example:8448",
        "abandon zoo",
        "changes in it:\n      widens: ",
        "d.example is no member any more",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
}

/// Goal: joining says of each member what became of it; by an answer with one of two kinds.
#[tokio::test]
async fn consortium_join() {
    let joined = json!({"consortium": "09".repeat(16), "serial": 1, "pairs": [
        {"server": "b.example", "outcome": "made", "detail": "in force from now on"},
        {"server": "c.example", "outcome": "not-signed", "detail": "has not signed"},
        {"server": "d.example", "outcome": "renewing", "detail": "our half is on its way"},
        {"server": "e.example", "outcome": "renewed", "detail": "goes on by this charter"},
    ]});
    let fake = FakeAdmin::new(&[
        ("POST /admin/v1/consortia/peers", 200, joined),
        (
            "GET /admin/v1/consortia",
            200,
            json!({"consortia": [
                {"charter": charter_summary(), "signed_ms": 1},
            ]}),
        ),
    ]);
    std::fs::write(fake.file("charter.txt"), "charter").unwrap();
    let line = format!("consortium join {}", fake.file("charter.txt").display());
    let outcome = fake.hsctl(&line).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("b.example  made"), "{outcome:?}");
    assert!(outcome.stdout.contains("not signed"), "{outcome:?}");
    assert!(
        outcome.stdout.contains("d.example  renewing"),
        "{outcome:?}"
    );
    assert!(outcome.stdout.contains("e.example  renewed"), "{outcome:?}");
    let listed = fake.hsctl("consortium list").await;
    assert!(listed.stdout.contains("1 of 1"), "{listed:?}");
}

/// Goal: reports are listed open ones first asked for, shown, and closed with the note that was given.
#[tokio::test]
async fn reports() {
    let id = "01".repeat(16);
    let summary = json!({
        "report": id, "at_ms": 1_795_000_000_000_u64, "state": "open", "reason": "spam",
        "address": "bob@b.example", "account": "02".repeat(16), "from": "c.example", "reporter": null,
        "messages": 0,
    });
    let list = json!({"reports": [summary], "next_before": null});
    let close = format!("POST /admin/v1/reports/{id}/close");
    let fake = FakeAdmin::new(&[
        (
            "GET /admin/v1/reports?state=open&limit=100",
            200,
            list.clone(),
        ),
        ("GET /admin/v1/reports?limit=5", 200, list),
        (close.as_str(), 200, summary),
    ]);
    let outcome = fake.hsctl("reports list").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for told in ["spam", "bob@b.example", "somebody at c.example", &id] {
        assert!(outcome.stdout.contains(told), "{told}: {outcome:?}");
    }
    let outcome = fake.hsctl("reports list --all --limit 5 --json").await;
    let printed: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(printed["reports"][0]["report"], json!(id));
    let outcome = fake
        .hsctl(&format!("reports close {id} --note warned"))
        .await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(fake.asked()[2].body, json!({"note": "warned"}));
}
