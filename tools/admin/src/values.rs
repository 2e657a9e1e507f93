//! Durations, sizes and instants as people write and read them.

use std::fmt::Write;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const UNITS: [(u64, &str, char); 5] = [
    (7 * 24 * 60 * 60, "week", 'w'),
    (24 * 60 * 60, "day", 'd'),
    (60 * 60, "hour", 'h'),
    (60, "minute", 'm'),
    (1, "second", 's'),
];

const INSTANT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");

/// Reads a duration in seconds: `90s`, `1h30m`, `7d`, `2w`, or a bare number of seconds.
pub(crate) fn parse_seconds(text: &str) -> Result<u32, String> {
    let wrong = || {
        format!(
            "`{text}` is not a duration: write for example 90s, 30m, 1h30m, 7d or 2w (at most 136 years)"
        )
    };
    let mut total: u64 = 0;
    let mut rest = text;
    let mut unit_before = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let mut letters = after.chars();
        let unit = match letters.next() {
            None if unit_before == u64::MAX => 1,
            None => return Err(wrong()),
            Some(letter) => UNITS
                .iter()
                .find(|(_, _, short)| *short == letter)
                .map(|(seconds, _, _)| *seconds)
                .ok_or_else(wrong)?,
        };
        // Falling units only: `30m1h` is more likely a slip than a wish.
        if unit >= unit_before {
            return Err(wrong());
        }
        unit_before = unit;
        total = number
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = letters.as_str();
    }
    if text.is_empty() {
        return Err(wrong());
    }
    u32::try_from(total).map_err(|_| wrong())
}

/// A duration in words, exact: `1 hour 30 minutes`.
pub(crate) fn duration(seconds: u64) -> String {
    words(seconds, UNITS.len())
}

/// A duration in words, its two largest units: `2 days 3 hours`.
pub(crate) fn rough_duration(seconds: u64) -> String {
    words(seconds, 2)
}

fn words(seconds: u64, units_max: usize) -> String {
    let mut rest = seconds;
    let mut text = String::new();
    let mut units = 0;
    for (unit, name, _) in UNITS {
        // "30 days" reads better than "4 weeks 2 days": weeks only when nothing is left over.
        if name == "week" && !rest.is_multiple_of(unit) {
            continue;
        }
        let number = rest / unit;
        if number > 0 && units < units_max {
            let space = if text.is_empty() { "" } else { " " };
            let plural = if number == 1 { "" } else { "s" };
            let _ = write!(text, "{space}{number} {name}{plural}");
            units += 1;
        }
        rest %= unit;
    }
    if text.is_empty() {
        text.push_str("0 seconds");
    }
    text
}

const SIZES: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Reads a number of bytes: `100MiB`, `1G` (= GiB), `25MB` (= 1000² × 25), or a bare number.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size: write for example 64K, 100M, 1GiB or 25MB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// A size in words: `100 MiB`, `1.5 KiB`, `12 bytes`.
pub(crate) fn size(bytes: u64) -> String {
    for (name, unit) in SIZES {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                tenth => format!("{}.{tenth} {name}", tenths / 10),
            };
        }
    }
    match bytes {
        1 => "1 byte".to_owned(),
        bytes => format!("{bytes} bytes"),
    }
}

/// An instant: `2026-11-22 10:20:30 UTC`.
pub(crate) fn instant(ms: u64) -> String {
    i64::try_from(ms / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|at| at.format(INSTANT).ok())
        .unwrap_or_else(|| format!("{ms} ms since 1970"))
}

/// Somebody else's text on one line: what a terminal would obey, and what turns text around, is shown instead.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let obeyed = character.is_control()
            || matches!(
                character,
                '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
            );
        if obeyed {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// How far an instant lies from now: `3 minutes ago`, `in 12 days`.
pub(crate) fn distance(ms: u64, now_ms: u64) -> String {
    if ms > now_ms {
        format!("in {}", rough_duration((ms - now_ms).div_ceil(1000)))
    } else {
        format!("{} ago", rough_duration((now_ms - ms) / 1000))
    }
}

/// An instant with its distance from now.
pub(crate) fn instant_and_distance(ms: u64) -> String {
    format!("{} ({})", instant(ms), distance(ms, now_ms()))
}

/// This machine's clock, to tell people how long ago something was.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
pub(crate) fn now_ms() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: durations read as people write them, and slips are refused; by a table.
    #[test]
    fn durations_parse() {
        for (text, seconds) in [
            ("0", 0),
            ("45", 45),
            ("90s", 90),
            ("1m", 60),
            ("1h30m", 5400),
            ("7d", 604_800),
            ("2w", 1_209_600),
            ("1w1d1h1m1s", 694_861),
        ] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for wrong in [
            "", "m", "1x", "1m30", "30m1h", "1m1m", "-1s", "1.5h", "200000w", "1 h", "9d9é",
        ] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }

    /// Goal: durations read as words and the words lose nothing; by a table.
    #[test]
    fn durations_print() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (60, "1 minute"),
            (5400, "1 hour 30 minutes"),
            (604_800, "1 week"),
            (30 * 86_400, "30 days"),
            (86_400 + 3_661, "1 day 1 hour 1 minute 1 second"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(rough_duration(86_400 + 3_661), "1 day 1 hour");
    }

    /// Goal: sizes read with binary and decimal units and print with binary ones.
    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512", 512),
            ("64K", 65_536),
            ("100MiB", 104_857_600),
            ("1g", 1 << 30),
            ("25MB", 25_000_000),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "M", "1.5M", "10X", "99999999999T"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size(104_857_600), "100 MiB");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1), "1 byte");
        assert_eq!(size(999), "999 bytes");
    }

    /// Goal: instants print in UTC, and both directions of distance read well.
    #[test]
    fn instants() {
        assert_eq!(instant(1_795_342_830_000), "2026-11-22 10:20:30 UTC");
        assert_eq!(distance(1_000, 181_000), "3 minutes ago");
        assert_eq!(distance(3_601_000, 1_000), "in 1 hour");
    }

    proptest! {
        /// Goal: a duration that is written in its units is read as it was meant. Method: any number of seconds, as
        /// the units that it is made of.
        #[test]
        fn durations_are_read_back(seconds in any::<u32>()) {
            let mut rest = u64::from(seconds);
            let mut text = String::new();
            for (unit, _, short) in UNITS {
                if rest >= unit {
                    text.push_str(&format!("{}{short}", rest / unit));
                    rest %= unit;
                }
            }
            if text.is_empty() {
                text.push('0');
            }
            prop_assert_eq!(parse_seconds(&text), Ok(seconds));
            prop_assert_eq!(parse_seconds(&seconds.to_string()), Ok(seconds));
        }

        /// Goal: any text is a value or an error that quotes it. Method: texts near to right ones, and any.
        #[test]
        fn any_text_is_a_value_or_an_error(
            text in prop_oneof!["([0-9]{0,21}[a-zA-Zé ]{0,4}){0,3}", any::<String>()]
        ) {
            for error in [parse_seconds(&text).err(), parse_bytes(&text).err()] {
                prop_assert!(error.is_none_or(|error| error.contains(&text)));
            }
        }

        /// Goal: a size is read as it was meant. Method: any number with each unit, as far as it fits.
        #[test]
        fn sizes_are_read_back(number in 0_u64..1 << 24) {
            for (unit, factor) in [("", 1), ("KiB", 1 << 10), ("m", 1 << 20), ("gb", 1_000_000_000), ("TiB", 1 << 40)] {
                prop_assert_eq!(parse_bytes(&format!("{number}{unit}")), Ok(number * factor));
            }
        }

        /// Goal: whatever is shown, is shown. Method: any numbers.
        #[test]
        fn anything_is_shown(first in any::<u64>(), second in any::<u64>()) {
            for text in [
                duration(first),
                rough_duration(first),
                size(first),
                instant(first),
                distance(first, second),
            ] {
                prop_assert!(!text.is_empty());
            }
        }
    }
}
