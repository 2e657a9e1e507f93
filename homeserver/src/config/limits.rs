//! `[limits]`: what one homeserver bears.

/// Bounds of connections and their first steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Most open connections on the client listener.
    pub client_connections_max: usize,
    /// Most open connections on the federation listener.
    pub federation_connections_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            client_connections_max: 20_000,
            federation_connections_max: 1_024,
        }
    }
}
