//! Where the store lies, and who shares it.

use super::*;

/// What `[store]` and `[postgresql]` come to.
fn store(text: &str) -> Result<StoreConfig, Vec<String>> {
    let config = read(&format!("[server]\nname = \"a.example\"\n{text}"), &[]);
    config.map(|config| config.store)
}

/// Goal: a database is described as operators write it: names, addresses and sockets, with and without ports. Method:
/// every key, then each kind of host.
#[test]
fn a_database_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let path = file.to_str().unwrap();
    let described = |hosts: &str| {
        store(&format!(
            "[store]\nengine = \"postgresql\"\n[postgresql]\nhosts = [{hosts}]\ndatabase = \"d\"\n\
             user = \"u\"\npassword_file = \"{path}\"\nroot_certificates = \"{path}\"\nconnections_max = 3\n"
        ))
    };
    let host = |name: &str, port| PostgresqlHost {
        name: name.to_owned(),
        port,
    };
    let expected = PostgresqlConfig {
        hosts: vec![
            host("db.example", 5432),
            host("::1", 1),
            host("10.0.0.1", 2),
        ],
        database: "d".to_owned(),
        user: "u".to_owned(),
        password_file: Some(file.clone()),
        root_certificates: Some(file.clone()),
        connections_max: 3,
    };
    assert_eq!(
        described("\"db.example\", \"[::1]:1\", \"10.0.0.1:2\""),
        Ok(StoreConfig::Postgresql(expected))
    );
    for (text, name, port) in [
        ("::1", "::1", 5432),
        ("[::1]", "::1", 5432),
        ("/run/postgresql", "/run/postgresql", 5432),
        ("/run/postgresql:5433", "/run/postgresql", 5433),
    ] {
        let Ok(StoreConfig::Postgresql(config)) = described(&format!("{text:?}")) else {
            panic!("{text} is refused");
        };
        assert_eq!(config.hosts, [host(name, port)], "{text}");
    }
    for text in [
        "",
        "db:0",
        "db:x",
        "db:",
        "two words",
        "::1:5432:x",
        "run/socket",
    ] {
        let mistakes = described(&format!("{text:?}")).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
        assert!(mistakes[0].contains("is no server"), "{mistakes:?}");
    }
    assert!(described("").unwrap_err()[0].contains("name at least one server"));
    let both = described("\"db.example\", \"/run/postgresql\"").unwrap_err();
    assert!(both[0].contains("not both"), "{both:?}");
}

/// Goal: what a database needs is asked for when it is used, and only then; an engine that is not there is told with
/// those that are. Method: sections without their keys.
#[test]
fn an_engine_has_what_it_needs() {
    assert_eq!(store(""), Ok(StoreConfig::Fjall { commit_log: true }));
    assert_eq!(
        store("[store]\nengine = \"fjall\"\n[postgresql]\nuser = \"u\"\n"),
        Ok(StoreConfig::Fjall { commit_log: true })
    );
    let empty = store("[store]\nengine = \"postgresql\"\n").unwrap_err();
    for key in ["hosts", "database", "user"] {
        let start = format!("main.toml: postgresql.{key}: it is missing and has no default");
        assert!(empty.contains(&start), "{empty:?}");
    }
    let unproved = store(
        "[store]\nengine = \"postgresql\"\n[postgresql]\nhosts = [\"db\"]\ndatabase = \"d\"\nuser = \"u\"\n",
    )
    .unwrap_err();
    assert_eq!(unproved.len(), 1, "{unproved:?}");
    assert!(unproved[0].contains("postgresql.root_certificates: it is missing"));
    let logged = store("[store]\nengine = \"postgresql\"\ncommit_log = true\n").unwrap_err();
    let told = |mistake: &String| mistake.contains("store.commit_log: only fjall has one");
    assert!(logged.iter().any(told), "{logged:?}");
    let unknown = store("[store]\nengine = \"oracle\"\n").unwrap_err();
    assert!(
        unknown[0].contains("use fjall or postgresql"),
        "{unknown:?}"
    );
    let sled = store("[store]\nengine = \"sled\"\n");
    if cfg!(feature = "sled") {
        assert_eq!(sled, Ok(StoreConfig::Sled));
    } else {
        assert!(sled.unwrap_err()[0].contains("built without it"));
    }
}

/// Goal: a node of several is described whole, and only over a database; every mistake is told at once. Method: a right
/// section, then one without its keys, with wrong ones, and beside fjall.
#[test]
fn a_node_of_several_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let path = secret.to_str().unwrap();
    let database = "[store]\nengine = \"postgresql\"\n[postgresql]\nhosts = [\"/run/postgresql\"]\n\
                    database = \"d\"\nuser = \"u\"\n";
    let keys = "[store_keys]\nfolder = \"/srv/generations\"\n";
    let cluster = |before: &str, section: &str| {
        let text = format!("[server]\nname = \"a.example\"\n{before}[cluster]\n{section}{keys}");
        read(&text, &[]).map(|config| config.cluster)
    };
    let whole = format!(
        "node = \"one\"\nlisten = \"10.0.0.1:8450\"\nothers = [\"two.example:8450\"]\nkey_file = \"{path}\"\n"
    );
    let expected = ClusterConfig {
        node: "one".to_owned(),
        listen: "10.0.0.1:8450".parse().unwrap(),
        others: vec!["two.example:8450".to_owned()],
        key_file: secret.clone(),
    };
    assert_eq!(cluster(database, &whole), Ok(Some(expected)));
    assert_eq!(cluster(database, ""), Ok(None));

    let alone = cluster("", &whole).unwrap_err();
    assert_eq!(alone.len(), 1, "{alone:?}");
    assert!(alone[0].contains("cluster.node: several homeservers need one database"));
    let partly = cluster(database, "node = \"one\"\n").unwrap_err();
    assert_eq!(partly.len(), 2, "{partly:?}");
    for key in ["listen", "key_file"] {
        let start = format!("main.toml: cluster.{key}: it is missing and has no default");
        assert!(partly.contains(&start), "{partly:?}");
    }
    std::fs::write(&secret, "short").unwrap();
    let wrong = cluster(
        database,
        &format!("node = \"One\"\nlisten = \"here\"\nothers = [\"two\"]\nkey_file = \"{path}\"\n"),
    )
    .unwrap_err();
    for part in [
        "cluster.node: `One` is no name",
        "cluster.listen: `here` is not an address",
        "cluster.others: `two` is not an endpoint",
        "has 5 bytes",
    ] {
        let told = |mistake: &String| mistake.contains(part);
        assert!(wrong.iter().any(told), "{part} is not in {wrong:?}");
    }
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let own = whole.replace("two.example", "10.0.0.1");
    assert!(cluster(database, &own).unwrap_err()[0].contains("own address"));
    let text = format!("[server]\nname = \"a.example\"\n{database}[cluster]\n{whole}");
    let apart = read(&text, &[]).unwrap_err();
    assert_eq!(apart.len(), 1, "{apart:?}");
    assert!(apart[0].contains("store_keys.folder: nodes of a cluster need the same"));
}
