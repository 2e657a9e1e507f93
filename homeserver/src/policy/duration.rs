//! Durations as people say them.

/// `seconds` in the largest unit that divides it: `90 seconds`, `1 minute`, `30 days`.
pub fn in_words(seconds: u32) -> String {
    const UNITS: [(u32, &str); 4] = [
        (24 * 60 * 60, "day"),
        (60 * 60, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let (count, unit) = UNITS
        .iter()
        .find(|(length, _)| seconds >= *length && seconds.is_multiple_of(*length))
        .map_or((seconds, "second"), |(length, unit)| {
            (seconds / length, *unit)
        });
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the unit is the largest that divides; by a table.
    #[test]
    fn units() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (60, "1 minute"),
            (90, "90 seconds"),
            (7200, "2 hours"),
            (2_592_000, "30 days"),
        ] {
            assert_eq!(in_words(seconds), text);
        }
    }
}
