//! `[telemetry]`: what is logged, and how.

use super::settings::Section;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For reading.
    Text,
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// How a log line looks.
    pub format: LogFormat,
    /// What is logged: a level, or a list such as `info,homeserver::federation=debug`.
    pub filter: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            // The engine tells each recovered file at `info`.
            filter: "info,fjall=warn,lsm_tree=warn".to_owned(),
        }
    }
}

impl TelemetryConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self {
            format: section
                .optional("format", log_format)
                .unwrap_or(default.format),
            filter: section.optional("filter", filter).unwrap_or(default.filter),
        }
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err(format!("`{text}` is no log format: use json or text")),
    }
}

fn filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| {
            format!("`{text}` is no filter ({error}): use error, warn, info, debug or trace")
        })
}
