//! The architecture as tables: who may use whom, and what only some may name.

/// Which rooms of the homeserver may use which others. To add an edge is to change the architecture: say
/// why in an ADR. `node` is what every room of the house is handed, so it names what it hands on;
/// `policy` uses nothing, for it is pure (but for the switch of a test build).
pub const EDGES: &[(&str, &[&str])] = &[
    (
        "admin",
        &[
            "audit",
            "backup",
            "clock",
            "delivery",
            "federation/peers",
            "federation/quarantine",
            "identity",
            "node",
            "organisation",
            "store",
        ],
    ),
    ("audit", &["clock", "store"]),
    ("backup", &["audit", "node", "organisation", "store"]),
    (
        "cli",
        &[
            "audit",
            "backup",
            "clock",
            "config",
            "identity",
            "organisation",
            "server",
            "store",
            "telemetry",
        ],
    ),
    (
        "client_api",
        &[
            "audit",
            "delivery",
            "identity",
            "node",
            "organisation",
            "store",
        ],
    ),
    ("cluster", &["store"]),
    (
        "delivery",
        &[
            "audit",
            "ciphertext",
            "cluster",
            "faults",
            "federation/peers",
            "identity",
            "node",
            "policy",
            "rooms",
            "store",
        ],
    ),
    ("faults", &["store"]),
    ("federation/discovery", &["clock", "config"]),
    (
        "federation/files",
        &[
            "delivery",
            "federation/outbound",
            "federation/paths",
            "federation/peers",
            "node",
        ],
    ),
    (
        "federation/inbound",
        &[
            "audit",
            "clock",
            "delivery",
            "faults",
            "federation/paths",
            "federation/peers",
            "federation/quarantine",
            "identity",
            "node",
            "store",
            "tls",
        ],
    ),
    (
        "federation/outbound",
        &[
            "audit",
            "clock",
            "cluster",
            "config",
            "delivery",
            "faults",
            "federation/discovery",
            "federation/files",
            "federation/paths",
            "federation/peers",
            "http_client",
            "node",
            "organisation",
            "store",
            "tls",
        ],
    ),
    (
        "federation/peers",
        &[
            "audit",
            "cluster",
            "faults",
            "federation/outbound",
            "federation/paths",
            "node",
            "policy",
            "store",
            "tls",
        ],
    ),
    (
        "federation/quarantine",
        &["audit", "federation/peers", "node", "store"],
    ),
    (
        "identity",
        &[
            "audit",
            "delivery",
            "node",
            "organisation",
            "policy",
            "store",
        ],
    ),
    (
        "node",
        &[
            "audit",
            "clock",
            "cluster",
            "config",
            "delivery",
            "federation/outbound",
            "federation/peers",
            "identity",
            "organisation",
            "rooms",
            "store",
            "tls",
        ],
    ),
    (
        "organisation",
        &["audit", "cluster", "config", "identity", "store"],
    ),
    ("policy", &["faults"]),
    (
        "rooms",
        &[
            "audit",
            "ciphertext",
            "delivery",
            "faults",
            "policy",
            "store",
        ],
    ),
    (
        "server",
        &[
            "admin",
            "audit",
            "backup",
            "client_api",
            "clock",
            "cluster",
            "config",
            "delivery",
            "faults",
            "federation/inbound",
            "federation/outbound",
            "identity",
            "node",
            "organisation",
            "store",
            "tls",
        ],
    ),
    ("store", &["ciphertext", "clock", "telemetry"]),
    ("telemetry", &["config"]),
    ("tls", &["clock", "faults", "organisation"]),
];

/// Rooms that use each other in a circle, and why: `docs/adr/0012-what-the-rooms-still-share.md`. No other
/// circle may arise, and none of these rooms may leave the circle unnoticed: then it is taken off the list.
pub const CIRCLE: &[&str] = &[
    // One struct of concrete types, handed to every room: it names the rooms whose state it holds.
    "node",
    // Accounts and devices end what is delivered to them; delivery asks who they are.
    "delivery",
    "identity",
    // A room's order is made by delivery's writes, and delivery asks the room who is in it.
    "rooms",
    // Each is woken by delivery and hands on to it.
    "federation/files",
    "federation/outbound",
    "federation/peers",
    // A new organisation hashes its administrator's password; certificates are issued to identities.
    "organisation",
    // Shows the organisation's certificates; the node holds the roots that it admits.
    "tls",
];

/// What a room shows under its parent's name.
pub const SHOWN_BY_PARENTS: &[(&[&str], &str)] = &[(&["federation", "run"], "federation/outbound")];

/// Rooms that are told apart below the top level.
pub const SPLIT: &[&str] = &["federation"];

/// Crates that only some rooms may name, and why.
pub const CRATES: &[(&[&str], &[&str], &str)] = &[
    (
        &[
            "fjall",
            "sled",
            "tokio_postgres",
            "deadpool_postgres",
            "refinery",
            "tokio_postgres_rustls",
        ],
        &["store/engine"],
        "only an engine names a database",
    ),
    (
        &[
            "hyper",
            "hyper_util",
            "axum",
            "tower",
            "http_body_util",
            "http",
        ],
        &["client_api", "admin", "federation", "http_client", "server"],
        "only the rooms at the edge know HTTP",
    ),
    (
        &["mls_rs", "mls_rs_core", "mls_rs_crypto_rustcrypto"],
        &[],
        "what a server may know of MLS is in room-rules",
    ),
    (
        &["hickory_resolver"],
        &["federation/discovery/dns"],
        "only discovery asks the DNS",
    ),
];

/// Rustls configurations are built in one room.
pub const CONFIGURATIONS: &[&str] = &["ServerConfig", "ClientConfig"];

/// Which of our crates may depend on which others of ours.
pub const CRATE_EDGES: &[(&str, &[&str])] = &[
    ("federation-proto", &[]),
    // `faultproxy` and `postgresql-server` for tests alone.
    (
        "homeserver",
        &[
            "faultproxy",
            "federation-proto",
            "homeserver-api",
            "postgresql-server",
            "room-rules",
        ],
    ),
    ("homeserver-api", &["federation-proto"]),
    // What may happen in a room: one judgement for the hub and for clients.
    ("room-rules", &["federation-proto"]),
    ("entente-sdk", &["homeserver-api", "room-rules"]),
    ("chat", &["entente-sdk"]),
    ("load", &["entente-sdk"]),
    // Measures the store beside its own engine: what no client sees.
    ("store-load", &["homeserver"]),
    ("demo", &["entente-sdk"]),
    ("hsctl", &["homeserver-api"]),
    // May use `faultproxy`, which knows nothing of what it carries.
    ("conformance", &[]),
    ("faultproxy", &[]),
    // Starts a database of the machine; knows nothing of what lies in it.
    ("postgresql-server", &[]),
    // Drives the store itself, in a process that a trial kills.
    ("torture", &["homeserver"]),
    ("xtask", &[]),
];

/// Lines of a file, its tests not counted.
pub const FILE_LINES_MAX: usize = 600;
