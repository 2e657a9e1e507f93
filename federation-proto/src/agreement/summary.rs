//! Statements in plain language: what an administrator reads before signing. What the other side chose
//! freely stands in quotation marks, so that it can't pass for a sentence of ours.

use crate::agreement::amendment::Amendment;
use crate::agreement::documents::{Acceptance, Offer, Statement};
use crate::agreement::states::Signed;
use crate::agreement::terms::{Direction, Grants, Operation, TtlBounds, UserTypes};
use crate::ids::ServerName;
use crate::text::Quoted;

/// An agreement that stands for longer is hardly meant so (leap days included).
const LONG_MS: u64 = 10 * 366 * 24 * 60 * 60 * 1000;
/// More than this hardly waits anywhere.
const MUCH_WAITING_BYTES: u64 = 1 << 40;

impl Offer {
    /// What the offer says, a sentence a line.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let statement = self.statement();
        let mut lines = vec![format!(
            "{} offers {} an agreement, to be accepted by {}.",
            statement.from,
            statement.to,
            date(self.body().answer_by_ms)
        )];
        if self.body().answer_by_ms > statement.expires_ms {
            lines.push("Beware: it may be accepted after the agreement has ended.".to_owned());
        }
        lines.extend(statement.summary());
        lines
    }
}

impl Acceptance {
    /// What the acceptance says, a sentence a line.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let statement = self.statement();
        let mut lines = vec![format!(
            "{} accepts the offer of {} and states its own side.",
            statement.from, statement.to
        )];
        lines.extend(statement.summary());
        lines
    }
}

impl Amendment {
    /// What the amendment says, a sentence a line; what it changes, [`Statement::changes_to`] says.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let statement = self.statement();
        let mut lines = vec![format!(
            "{} amends its agreement with {}: statement {}.",
            statement.from, statement.to, statement.serial
        )];
        lines.extend(statement.summary());
        lines
    }
}

impl Statement {
    /// What the maker states, a sentence a line.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let (from, to, terms) = (&self.from, &self.to, &self.terms);
        let mut lines = grant_lines(from, to, &terms.outbound, from);
        lines.extend(grant_lines(to, from, &terms.inbound, from));
        lines.push(ttl_line(terms.ttl));
        lines.push(format!(
            "Up to {} for people of {from} may wait there.",
            bytes_text(terms.waiting_bytes_max)
        ));
        lines.push(file_line(terms.file_bytes_max));
        lines.extend(label_line(terms.label_max));
        lines.push(format!("It ends on {}.", date(self.expires_ms)));
        lines.push(endpoints_line(self));
        if !self.contact.is_empty() {
            lines.push(contact_line(self));
        }
        lines.push(format!("{from} speaks protocol version {}.", self.versions));
        lines.extend(self.oddities());
        lines
    }

    /// What is allowed and hardly meant.
    fn oddities(&self) -> Vec<String> {
        let from = &self.from;
        let odd = [
            (
                self.expires_ms.saturating_sub(self.made_ms) > LONG_MS,
                "Beware: the agreement would stand for more than 10 years.".to_owned(),
            ),
            (
                self.terms.waiting_bytes_max == 0,
                format!(
                    "Beware: nothing may wait for people of {from}, so that no mail reaches them."
                ),
            ),
            (
                self.terms.waiting_bytes_max > MUCH_WAITING_BYTES,
                format!(
                    "Beware: {from} lets more than {} wait for its people, at its partner too; a partner \
                     holds what its own limits allow.",
                    bytes_text(MUCH_WAITING_BYTES)
                ),
            ),
        ];
        odd.into_iter()
            .filter_map(|(is_odd, text)| is_odd.then_some(text))
            .collect()
    }
}

impl Signed {
    /// What both statements together allow, a sentence a line.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let (us, them) = (&self.ours().from, &self.theirs().from);
        let effective = self.effective();
        let mut lines = grant_lines(us, them, effective.grants(Direction::Outbound), us);
        lines.extend(grant_lines(
            them,
            us,
            effective.grants(Direction::Inbound),
            us,
        ));
        lines.push(match effective.ttl() {
            Some(ttl) => ttl_line(ttl),
            None => "No message may pass: the time-to-live bounds do not overlap.".to_owned(),
        });
        for (direction, server) in [(Direction::Inbound, us), (Direction::Outbound, them)] {
            let most = bytes_text(effective.waiting_bytes_max(direction));
            lines.push(format!(
                "Up to {most} for people of {server} may wait there."
            ));
        }
        lines.push(file_line(effective.file_bytes_max()));
        lines.extend(label_line(effective.label_max()));
        lines.push(format!("It ends on {}.", date(effective.expires_ms())));
        if self.charter().is_some() {
            lines.push("It was made by a consortium's charter.".to_owned());
        }
        lines
    }
}

/// Who may do what to whom. `stating` is the side whose user types the grants name.
fn grant_lines(
    actor: &ServerName,
    target: &ServerName,
    grants: &Grants,
    stating: &ServerName,
) -> Vec<String> {
    if grants.is_empty() {
        return vec![format!(
            "People of {actor} may do nothing towards people of {target}."
        )];
    }
    grants
        .iter()
        .map(|(operation, user_types)| grant_line(actor, target, *operation, user_types, stating))
        .collect()
}

pub(super) fn grant_line(
    actor: &ServerName,
    target: &ServerName,
    operation: Operation,
    user_types: &UserTypes,
    stating: &ServerName,
) -> String {
    let what = match operation {
        Operation::Message => format!("exchange messages with people of {target}"),
        Operation::Invite => format!("add people of {target} to rooms"),
        Operation::Directory => format!("look up people of {target}"),
        Operation::Files => format!("send files to people of {target}"),
    };
    let only = restriction(stating, user_types);
    format!("People of {actor} may {what}{only}.")
}

pub(super) fn endpoints_line(statement: &Statement) -> String {
    let from = &statement.from;
    if statement.endpoints.is_empty() {
        return format!("{from} is reached where DNS says.");
    }
    let endpoints: Vec<_> = statement.endpoints.iter().map(|e| e.as_str()).collect();
    format!("{from} is reached at {}.", endpoints.join(", "))
}

pub(super) fn contact_line(statement: &Statement) -> String {
    format!("Contact: {}.", Quoted(&statement.contact))
}

fn restriction(stating: &ServerName, user_types: &UserTypes) -> String {
    match user_types {
        UserTypes::All => String::new(),
        UserTypes::Named(names) => {
            let names: Vec<_> = names.iter().map(|name| Quoted(name).to_string()).collect();
            let noun = if names.len() == 1 { "type" } else { "types" };
            format!(", of {stating} only the user {noun} {}", names.join(", "))
        }
    }
}

pub(super) fn ttl_line(ttl: TtlBounds) -> String {
    format!(
        "Messages live between {} and {}.",
        duration(ttl.min_seconds),
        duration(ttl.max_seconds)
    )
}

pub(super) fn file_line(file_bytes_max: u64) -> String {
    match file_bytes_max {
        0 => "No files.".to_owned(),
        most => format!("Files of up to {}.", bytes_text(most)),
    }
}

/// Nothing, while every label may pass.
fn label_line(label_max: u8) -> Option<String> {
    (label_max < u8::MAX).then(|| labels_line(label_max))
}

pub(super) fn labels_line(label_max: u8) -> String {
    match label_max {
        0 => "Messages without a label only.".to_owned(),
        u8::MAX => "Messages of any label.".to_owned(),
        most => format!("Messages labelled {most} at most."),
    }
}

/// The largest unit that divides the number, so that nothing is rounded.
fn duration(seconds: u32) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let (size, unit) = units
        .into_iter()
        .find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size))
        .unwrap_or((1, "second"));
    plural(u64::from(seconds / size), unit)
}

pub(super) fn bytes_text(count: u64) -> String {
    let units = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    match units
        .into_iter()
        .find(|(size, _)| count >= *size && count.is_multiple_of(*size))
    {
        Some((size, unit)) => format!("{} {unit}", count / size),
        None => plural(count, "byte"),
    }
}

fn plural(count: u64, unit: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{s}")
}

/// A time as `2026-11-22 10:15 UTC`.
pub(super) fn date(at_ms: u64) -> String {
    let minutes = at_ms / 60_000;
    let (hour, minute) = (minutes / 60 % 24, minutes % 60);
    let (year, month, day) = civil(minutes / (24 * 60));
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Year, month and day of the day that is `days` after 1970-01-01, in the Gregorian calendar. Counts
/// in years that start in March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let shifted = days + 719_468;
    let era = shifted / DAYS_IN_400_YEARS;
    let day_of_era = shifted % DAYS_IN_400_YEARS;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: dates are right at the calendar's corners; by known ones.
    #[test]
    fn dates() {
        for (at_ms, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399_000, "2000-02-28 23:59 UTC"),
            (951_782_400_000, "2000-02-29 00:00 UTC"),
            (1_795_342_500_000, "2026-11-22 10:15 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(at_ms), text);
        }
    }

    /// Goal: numbers are shown in the largest unit that loses nothing; by a table.
    #[test]
    fn units() {
        assert_eq!(duration(1), "1 second");
        assert_eq!(duration(90), "90 seconds");
        assert_eq!(duration(7200), "2 hours");
        assert_eq!(duration(30 * 86_400), "30 days");
        assert_eq!(bytes_text(1), "1 byte");
        assert_eq!(bytes_text(1 << 30), "1 GiB");
        assert_eq!(bytes_text(1025), "1025 bytes");
    }
}
