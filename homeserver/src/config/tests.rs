use proptest::prelude::*;

use super::*;

mod stores;

fn read(main: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let mut settings = Settings::default();
    settings.read_text("main.toml", main);
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    settings.read_environment(environment.iter().map(owned));
    Config::read(settings).map_err(|mistakes| mistakes.iter().map(Mistake::to_string).collect())
}

/// Goal: only the server name has no default; by the shortest configuration.
#[test]
fn the_shortest_configuration() {
    let config = read("[server]\nname = \"a.example\"\n", &[]).unwrap();
    let name = "a.example".parse().unwrap();
    assert_eq!(config, Config::minimal(name, "/var/lib/entente".into()));
}

/// Goal: every key is understood, and the environment has the last word; by setting them all.
#[test]
fn every_key() {
    let text = r#"
        [server]
        name = "a.example"
        data_dir = "/srv/entente"
        [listen]
        client = "127.0.0.1:1"
        federation = "[::1]:2"
        admin_socket = "/run/a.sock"
        metrics = "127.0.0.1:3"
        offers = "127.0.0.1:4"
        [federation]
        endpoints = ["chat.a.example:8448", "[::1]:8448"]
        [discovery]
        servers = ["127.0.0.1:5353", "::1"]
        dnssec = "require"
        private_addresses = false
        loopback_addresses = true
        [limits]
        client_connections_max = 5
        federation_connections_max = 6
        peer_envelopes_per_second_max = 9
        peer_refusals_per_second_max = 10
        peer_outbox_bytes_max = 11
        disk_free_bytes_min = 12
        inbox_messages_max = 1001
        inbox_bytes_max = 67108865
        account_outbox_messages_max = 13
        account_outbox_bytes_max = 14
        account_file_bytes_max = 15
        peer_file_bytes_max = 16
        handshake_seconds_max = 7
        head_seconds_max = 8
        [store]
        commit_log = false
        [store_keys]
        folder = "/srv/generations"
        master_command = ["/usr/bin/print-key", "entente"]
        [telemetry]
        format = "text"
        filter = "debug"
        [runtime]
        workers = 2
    "#;
    let environment = [
        ("ENTENTE_LISTEN__CLIENT", "127.0.0.1:9"),
        ("ENTENTE_FEDERATION__ENDPOINTS", "a.example:1, a.example:2"),
        ("ENTENTE_CONFIG", "is no key"),
        ("HOME", "/root"),
    ];
    let config = read(text, &environment).unwrap();
    assert_eq!(config.server.data_dir, Path::new("/srv/entente"));
    assert_eq!(config.listen.client, "127.0.0.1:9".parse().unwrap());
    assert_eq!(config.listen.federation, "[::1]:2".parse().unwrap());
    assert_eq!(config.listen.admin_socket, Path::new("/run/a.sock"));
    assert_eq!(config.listen.metrics, Some("127.0.0.1:3".parse().unwrap()));
    assert_eq!(config.listen.offers, Some("127.0.0.1:4".parse().unwrap()));
    assert_eq!(config.federation.endpoints, ["a.example:1", "a.example:2"]);
    let servers = ["127.0.0.1:5353", "[::1]:53"].map(|server| server.parse().unwrap());
    let discovery = DiscoveryConfig {
        servers: servers.into(),
        dnssec: Dnssec::Require,
        trust_anchors: None,
        private_addresses: false,
        loopback_addresses: true,
    };
    assert_eq!(config.discovery, discovery);
    assert_eq!(config.limits.client_connections_max, 5);
    assert_eq!(config.limits.federation_connections_max, 6);
    assert_eq!(config.limits.peer_envelopes_per_second_max, 9);
    assert_eq!(config.limits.peer_refusals_per_second_max, 10);
    assert_eq!(config.limits.peer_outbox_bytes_max, 11);
    assert_eq!(config.limits.disk_free_bytes_min, 12);
    assert_eq!(config.limits.inbox_messages_max, 1001);
    assert_eq!(config.limits.inbox_bytes_max, INBOX_BYTES_LEAST + 1);
    assert_eq!(config.limits.account_outbox_messages_max, 13);
    assert_eq!(config.limits.account_outbox_bytes_max, 14);
    assert_eq!(config.limits.account_file_bytes_max, 15);
    assert_eq!(config.limits.peer_file_bytes_max, 16);
    assert_eq!(config.limits.handshake_time_max.as_secs(), 7);
    assert_eq!(config.limits.head_time_max.as_secs(), 8);
    assert_eq!(config.store, StoreConfig::Fjall { commit_log: false });
    assert_eq!(config.generations_dir(), Path::new("/srv/generations"));
    let command = ["/usr/bin/print-key", "entente"].map(str::to_owned);
    let master = MasterKeyConfig::Command(command.into());
    assert_eq!(config.store_keys.master, master);
    assert_eq!(config.telemetry.format, LogFormat::Text);
    assert_eq!(config.telemetry.filter, "debug");
    assert_eq!(config.runtime.workers, 2);
}

/// Goal: every mistake is reported at once, each with its place and key; by a file full of them.
#[test]
fn every_mistake_at_once() {
    let text = r#"
stray = 1
[server]
name = "A.example"
data_dir = "relative"
colour = "red"
[listen]
client = "everywhere"
federation = ["127.0.0.1:1"]
metrics = "0.0.0.0:9464"
[federation]
endpoints = ["a.example"]
[limits]
client_connections_max = -1
[telemetry]
format = "xml"
filter = { level = "info" }
[runtime]
workers = 0
[colours]
"#;
    let mistakes = read(text, &[("ENTENTE_LISTEN__BACKLOG", "1")]).unwrap_err();
    let expected = [
        "main.toml:2: `stray` stands outside",
        "main.toml:4: server.name: `A.example` is not a server name",
        "main.toml:5: server.data_dir: `relative` is not an absolute path",
        "main.toml:6: server.colour: there is no such key; there are name, data_dir",
        "main.toml:8: listen.client: `everywhere` is not an address",
        "main.toml:9: listen.federation: one value is wanted here",
        "main.toml:10: listen.metrics: `0.0.0.0:9464` is reachable from outside",
        "main.toml:12: federation.endpoints: `a.example` is not an endpoint",
        "main.toml:14: limits.client_connections_max: `-1` is not a whole number",
        "main.toml:16: telemetry.format: `xml` is no log format",
        "main.toml:17: telemetry.filter: a table does not belong here",
        "main.toml:19: runtime.workers: `0` is not a whole number",
        "main.toml:20: there is no section [colours]",
        "environment variable ENTENTE_LISTEN__BACKLOG: listen.backlog: there is no such key",
    ];
    for start in expected {
        assert!(
            mistakes.iter().any(|mistake| mistake.starts_with(start)),
            "{start} is not in {mistakes:#?}"
        );
    }
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
}

/// Goal: every wrong element of a list is told, not the first alone; by a list with two of them.
#[test]
fn every_element_of_a_list() {
    let text = "[server]\nname = \"a.example\"\n[federation]\n\
                endpoints = [\"one\", \"a.example:1\", \"two\"]\n";
    let mistakes = read(text, &[]).unwrap_err();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[0].starts_with("main.toml:4: federation.endpoints: `one`"));
    assert!(mistakes[1].starts_with("main.toml:4: federation.endpoints: `two`"));
}

/// Goal: trust anchors are read at start, and are not without use; by a missing file, one without keys and
/// validation that is off.
#[test]
fn trust_anchors() {
    let read = |dnssec: &str, file: &str| {
        let text = format!(
            "[server]\nname = \"a.example\"\n[discovery]\nservers = [\"dns.example\"]\n\
             dnssec = \"{dnssec}\"\ntrust_anchors = \"{file}\"\n"
        );
        read(&text, &[]).unwrap_err()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("anchors");
    let path = file.to_str().unwrap();
    let missing = read("require", path);
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(
        missing[0].contains("`dns.example` is not a DNS server"),
        "{missing:?}"
    );
    std::fs::write(&file, "test. A 192.0.2.1\n").unwrap();
    assert!(read("report", path)[1].contains("no DNSKEY"));
    std::fs::write(&file, "test. IN DNSKEY 257 3 13 AAAA\n").unwrap();
    assert!(read("off", path)[1].contains("use report or require"));
}

/// Goal: a log server is understood, from the file and from the environment, with a name of its own or its address's; what is
/// wrong or missing is told. Method: right and wrong sections.
#[test]
fn a_log_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("root.pem");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let head = "[server]\nname = \"a.example\"\n[audit.syslog]\n";
    let whole = format!("{head}address = \"log.example:6514\"\nroot_certificates = \"{path}\"\n");
    let expected = SyslogConfig {
        host: "log.example".to_owned(),
        port: 6514,
        server_name: "log.example".to_owned(),
        root_certificates: file.clone(),
    };
    let config = read(&whole, &[]).unwrap();
    assert_eq!(config.audit.syslog, Some(expected.clone()));
    let by_address = [
        ("ENTENTE_AUDIT_SYSLOG__ADDRESS", "[::1]:7"),
        ("ENTENTE_AUDIT_SYSLOG__SERVER_NAME", "other.example"),
    ];
    let config = read(&whole, &by_address).unwrap();
    let changed = SyslogConfig {
        host: "::1".to_owned(),
        port: 7,
        server_name: "other.example".to_owned(),
        ..expected
    };
    assert_eq!(config.audit.syslog, Some(changed));
    for (text, told) in [
        (
            format!("{head}address = \"log.example:6514\"\n"),
            "audit.syslog.root_certificates: it is missing",
        ),
        (
            whole.replace("log.example:6514", "log.example"),
            "main.toml:4: audit.syslog.address: `log.example` is no log server",
        ),
        (
            whole.replace("log.example:6514", "log example:1"),
            "main.toml:4: audit.syslog.address: `log example:1`",
        ),
        (
            format!("{whole}colour = \"red\"\n"),
            "main.toml:6: audit.syslog.colour: there is no such key",
        ),
        (
            whole.replace("[audit.syslog]", "[audit]"),
            "there is no section [audit]",
        ),
        (
            whole.replace(path, "/nonexistent"),
            "audit.syslog.root_certificates: /nonexistent",
        ),
    ] {
        let mistakes = read(&text, &[]).unwrap_err();
        assert!(
            mistakes.iter().any(|mistake| mistake.contains(told)),
            "{told}: {mistakes:?}"
        );
    }
    std::fs::write(&file, "no certificate").unwrap();
    assert!(read(&whole, &[]).unwrap_err()[0].contains("holds no certificate"));
}

/// Goal: there is one master key, from a file, a credential or a program, and what can be none of these is told. Method: each
/// alone, two at once, and what is no name and no path.
#[test]
fn one_master_key() {
    let read = |lines: &str| {
        let text = format!("[server]\nname = \"a.example\"\n[store_keys]\n{lines}\n");
        read(&text, &[]).map(|config| config.store_keys.master)
    };
    let file = MasterKeyConfig::File("/run/key".into());
    assert_eq!(read("master_file = \"/run/key\"").unwrap(), file);
    let credential = MasterKeyConfig::Credential("store-key".to_owned());
    let lines = "master_credential = \"store-key\"";
    assert_eq!(read(lines).unwrap(), credential);
    assert_eq!(read("").unwrap(), MasterKeyConfig::Made);
    for (lines, told) in [
        (
            "master_file = \"/k\"\nmaster_credential = \"k\"",
            "main.toml:4: store_keys.master_file: there is one master key",
        ),
        (
            "master_credential = \"../k\"",
            "main.toml:4: store_keys.master_credential: `../k` is no name",
        ),
        (
            "master_command = [\"cat\", \"/k\"]",
            "main.toml:4: store_keys.master_command: a program is named by its absolute path",
        ),
        (
            "master_command = []",
            "main.toml:4: store_keys.master_command: a program is named by its absolute path",
        ),
        (
            "master_file = \"k\"",
            "main.toml:4: store_keys.master_file: `k`",
        ),
    ] {
        let mistakes = read(lines).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].starts_with(told), "{mistakes:?}");
    }
}

/// Goal: broken TOML is reported with its line, beside the mistakes of what could be read.
#[test]
fn broken_toml() {
    let mistakes = read(
        "[server]\nname = a.example\n[listen]\nclient = \"x\"\n",
        &[],
    )
    .unwrap_err();
    assert!(
        mistakes.iter().any(|m| m.starts_with("main.toml:2: ")),
        "{mistakes:?}"
    );
    assert!(
        mistakes
            .iter()
            .any(|m| m.starts_with("main.toml:4: listen.client")),
        "{mistakes:?}"
    );
}

/// Goal: a mistake of writing is told, and not also what follows from it alone; by a heading that is not closed, and
/// by a file that is missing.
#[test]
fn no_ghosts() {
    let broken = read("[server\nname = \"a.example\"\n", &[]).unwrap_err();
    assert!(!broken.is_empty());
    for mistake in &broken {
        assert!(!mistake.contains("there is no section"), "{broken:?}");
        assert!(!mistake.contains("stands outside"), "{broken:?}");
        assert!(!mistake.contains("has no default"), "{broken:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let none = Config::load(&folder.path().join("entente.toml"), []).unwrap_err();
    assert_eq!(none.len(), 1, "{none:?}");
}

/// Goal: files of `conf.d` override the main file in the order of their names; a missing file is
/// reported with what to do.
#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("entente.toml");
    let none = Config::load(&main, []).unwrap_err();
    assert!(none[0].problem.contains("homeserver init"), "{none:?}");

    std::fs::write(
        &main,
        "[server]\nname = \"a.example\"\n[runtime]\nworkers = 1\n",
    )
    .unwrap();
    let parts = folder.path().join("conf.d");
    std::fs::create_dir(&parts).unwrap();
    std::fs::write(parts.join("20-more.toml"), "[runtime]\nworkers = 3\n").unwrap();
    std::fs::write(parts.join("10-less.toml"), "[runtime]\nworkers = 2\n").unwrap();
    std::fs::write(parts.join("30-ignored.toml~"), "nonsense").unwrap();
    assert_eq!(Config::load(&main, []).unwrap().runtime.workers, 3);
}

/// Goal: two listeners never share an address, and the mistake names the place; by the same address in a
/// file and in the environment.
#[test]
fn shared_addresses() {
    let text = "[server]\nname = \"a.example\"\n[listen]\nclient = \"127.0.0.1:1\"\n\
                federation = \"127.0.0.1:1\"\nmetrics = \"127.0.0.1:1\"\n";
    let mistakes = read(text, &[]).unwrap_err();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[0].starts_with("main.toml:5: listen.federation: "));
    assert!(mistakes[1].starts_with("main.toml:6: listen.metrics: "));

    // One that takes every address of the machine leaves none.
    for (client, clashes) in [
        ("0.0.0.0:1", true),
        ("[::]:1", true),
        ("[::1]:1", false),
        ("127.0.0.2:1", false),
        ("0.0.0.0:2", false),
    ] {
        let text = format!(
            "[server]\nname = \"a.example\"\n[listen]\nclient = \"{client}\"\nfederation = \"127.0.0.1:1\"\n"
        );
        assert_eq!(read(&text, &[]).is_err(), clashes, "{client}");
    }

    // The one who set an address last is told, wherever that was.
    let variable = ("ENTENTE_LISTEN__CLIENT", "0.0.0.0:8448");
    let mistakes = read("[server]\nname = \"a.example\"\n", &[variable]).unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    let start = "environment variable ENTENTE_LISTEN__CLIENT: listen.client: ";
    assert!(mistakes[0].starts_with(start), "{mistakes:?}");
}

/// Names of variables and values, right and wrong, and any text.
fn variable() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        "ENTENTE_(SERVER|LISTEN|LIMITS|RUNTIME|FEDERATION|DISCOVERY|TELEMETRY)__[A-Z_]{0,12}",
        Just("ENTENTE_RUNTIME__WORKERS".to_owned()),
        Just("ENTENTE_FEDERATION__ENDPOINTS".to_owned()),
        Just("ENTENTE_LISTEN__CLIENT".to_owned()),
        "ENTENTE_{0,3}[A-Za-z_]{0,9}",
        any::<String>(),
    ];
    let value = prop_oneof![
        "[0-9]{0,4}",
        "([a-z.]{0,9}:[0-9]{0,5},? ?){0,3}",
        any::<String>(),
    ];
    (name, value)
}

proptest! {
    /// Goal: whatever the environment holds is a configuration, or mistakes that each name their variable. Method:
    /// variables of every kind over a right file.
    #[test]
    fn any_environment(variables in prop::collection::vec(variable(), 0..6)) {
        let mut settings = Settings::default();
        settings.read_text("main.toml", "[server]\nname = \"a.example\"\n");
        settings.read_environment(variables.iter().cloned());
        if let Err(mistakes) = Config::read(settings) {
            prop_assert!(!mistakes.is_empty());
            for mistake in mistakes {
                let variable = mistake.at.strip_prefix("environment variable ");
                prop_assert!(
                    variable.is_some_and(|name| variables.iter().any(|(known, _)| known == name)),
                    "{mistake}"
                );
            }
        }
    }

    /// Goal: a key means the same in the environment as in a file. Method: numbers and lists, right and wrong, set
    /// in both ways.
    #[test]
    fn environment_and_file_agree(
        workers in prop_oneof![Just("1".to_owned()), "[0-9]{1,4}", "[a-z-]{1,4}"],
        endpoints in prop::collection::vec("[a-z]{1,5}(\\.example)?(:[0-9]{1,5})?", 0..4),
    ) {
        let list: Vec<_> = endpoints.iter().map(|text| format!("{text:?}")).collect();
        let head = "[server]\nname = \"a.example\"\n";
        let text = format!(
            "{head}[runtime]\nworkers = {workers:?}\n[federation]\nendpoints = [{}]\n",
            list.join(", ")
        );
        let joined = endpoints.join(", ");
        let variables = [
            ("ENTENTE_RUNTIME__WORKERS", workers.as_str()),
            ("ENTENTE_FEDERATION__ENDPOINTS", joined.as_str()),
        ];
        let problems = |result: Result<Config, Vec<String>>| {
            result.map_err(|mistakes| {
                let mut problems: Vec<_> = mistakes
                    .iter()
                    .filter_map(|mistake| Some(mistake.split_once(": ")?.1.to_owned()))
                    .collect();
                problems.sort();
                problems
            })
        };
        prop_assert_eq!(problems(read(&text, &[])), problems(read(head, &variables)));
    }

    /// Goal: whatever lies in `conf.d` is taken up or told with its file. Method: any texts in it, beside a right
    /// main file.
    #[test]
    fn any_parts(parts in prop::collection::vec(
        prop_oneof![any::<String>(), "(\\[[a-z]{1,7}\\]?\n|[a-z_]{1,7} ?= ?[0-9\"a]{1,4}\n){0,4}"],
        0..3,
    )) {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("entente.toml");
        std::fs::write(&main, "[server]\nname = \"a.example\"\n").unwrap();
        let beside = folder.path().join("conf.d");
        std::fs::create_dir(&beside).unwrap();
        for (number, text) in parts.iter().enumerate() {
            std::fs::write(beside.join(format!("{number}.toml")), text).unwrap();
        }
        if let Err(mistakes) = Config::load(&main, []) {
            prop_assert!(!mistakes.is_empty());
            let place = beside.display().to_string();
            for mistake in mistakes {
                prop_assert!(mistake.at.starts_with(&place), "{mistake}");
            }
        }
    }
}
