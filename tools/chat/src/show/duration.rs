//! Lengths of time as people write and read them.

const UNITS: [(&str, u64); 5] = [
    ("w", 7 * 24 * 60 * 60),
    ("d", 24 * 60 * 60),
    ("h", 60 * 60),
    ("m", 60),
    ("s", 1),
];

/// Reads `30s`, `5m`, `2h`, `1d`, `1w`, sums of them such as `1h30m`, and `0`.
pub(crate) fn parse_seconds(text: &str) -> Result<u32, String> {
    let error = || format!("`{text}` is not a length of time: use 30s, 5m, 2h, 1d, 1w, 1h30m or 0");
    if text == "0" {
        return Ok(0);
    }
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(error)?;
        let number: u64 = number.parse().map_err(|_| error())?;
        let (length, unit) = UNITS
            .iter()
            .find_map(|(unit, length)| after.strip_prefix(unit).map(|rest| (*length, rest)))
            .ok_or_else(error)?;
        seconds = number
            .checked_mul(length)
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(error)?;
        rest = unit;
    }
    if text.is_empty() {
        return Err(error());
    }
    u32::try_from(seconds).map_err(|_| format!("`{text}` is longer than 136 years"))
}

/// At most two units: `6 d 23 h`, `12 min`, `30 s`.
pub(crate) fn describe_seconds(seconds: u64) -> String {
    const NAMES: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (name, length) in NAMES {
        let count = rest / length;
        rest %= length;
        if count > 0 {
            parts.push(format!("{count} {name}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() {
        "0 s".to_owned()
    } else {
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: every documented form is read, everything else is an error; by a table of both.
    #[test]
    fn reads_lengths() {
        for (text, seconds) in [
            ("0", 0),
            ("30s", 30),
            ("5m", 300),
            ("2h", 7_200),
            ("1d", 86_400),
            ("1w", 604_800),
            ("1h30m", 5_400),
        ] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for bad in [
            "",
            "5",
            "m",
            "1x",
            "-1s",
            "1 h",
            "1h30",
            "99999999999w",
            "5m😀",
        ] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }

    /// Goal: lengths are shown in at most two neighbouring units; by a table.
    #[test]
    fn shows_lengths() {
        for (seconds, shown) in [
            (0, "0 s"),
            (30, "30 s"),
            (90, "1 min 30 s"),
            (3_600, "1 h"),
            (3_601, "1 h"),
            (604_800, "7 d"),
            (604_799, "6 d 23 h"),
        ] {
            assert_eq!(describe_seconds(seconds), shown);
        }
    }

    proptest! {
        /// Goal: a length that is written in its units is read as it was meant. Method: any number of seconds, as the
        /// units that it is made of.
        #[test]
        fn lengths_are_read_back(seconds in any::<u32>()) {
            let mut rest = u64::from(seconds);
            let mut text = String::new();
            for (unit, length) in UNITS {
                if rest >= length {
                    text.push_str(&format!("{}{unit}", rest / length));
                    rest %= length;
                }
            }
            if text.is_empty() {
                text.push('0');
            }
            prop_assert_eq!(parse_seconds(&text), Ok(seconds));
        }

        /// Goal: any text is a length or an error that quotes it. Method: texts near to right ones, and any.
        #[test]
        fn any_text_is_a_length_or_an_error(
            text in prop_oneof!["([0-9]{0,21}[a-zé ]{0,2}){0,4}", any::<String>()]
        ) {
            if let Err(error) = parse_seconds(&text) {
                prop_assert!(error.contains(&text));
            }
        }

        /// Goal: whatever is shown names two units at most. Method: any number of seconds.
        #[test]
        fn any_length_is_shown(seconds in any::<u64>()) {
            let shown = describe_seconds(seconds);
            prop_assert!(matches!(shown.split(' ').count(), 2 | 4), "{}", shown);
        }
    }
}
