//! Whether the system lets this process open as many connections as it is configured for.

use crate::config::LimitsConfig;

/// Files besides connections: the store's tables above all.
const OTHER_FILES: usize = 1024;

/// Warns when the limit on open files is lower than the connections need.
pub(super) fn look(limits: &LimitsConfig) {
    let needed = limits
        .client_connections_max
        .saturating_add(limits.federation_connections_max)
        .saturating_add(OTHER_FILES);
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match allowed(&text) {
        Some(allowed) if allowed < needed => tracing::warn!(
            allowed,
            needed,
            "the system allows fewer open files than the configured connections need: raise it \
             (LimitNOFILE= under systemd, ulimit -n in a shell) or lower [limits]"
        ),
        _ => {}
    }
}

/// The soft limit on open files; `None`: unlimited, or not told.
fn allowed(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the soft limit is read as the kernel writes it; by its own text and by variants.
    #[test]
    fn the_kernels_text() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(allowed(text), Some(1024));
        assert_eq!(allowed(&text.replace("1024 ", "unlimited")), None);
        assert_eq!(allowed(""), None);
        let own = std::fs::read_to_string("/proc/self/limits").unwrap();
        assert!(own.contains("Max open files"));
    }
}
