//! What is compared is measured in turn, round after round: a machine that slows down for a while slows down all of it. What
//! counts is the middle of the rounds, and of the ratios within each.

use serde_json::{Value, json};

use super::at;

/// The number at `pointer` in the report of each round; none when any lacks it.
pub(super) fn series(reports: &[Value], pointer: &str) -> Option<Vec<f64>> {
    reports
        .iter()
        .map(|report| at(report, pointer).as_f64())
        .collect()
}

/// The number in the middle, or between the two in the middle; none of none.
pub(super) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_unstable_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    let upper = *numbers.get(middle)?;
    if numbers.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *numbers.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// The median of the numbers at `pointer`.
pub(super) fn median_of(reports: &[Value], pointer: &str) -> Option<f64> {
    median(series(reports, pointer)?)
}

/// The ratios, round by round, of the numbers at `pointer` in two series of reports; none when a round lacks one, or has
/// nothing to divide by.
pub(super) fn ratios(of: &[Value], to: &[Value], pointer: &str) -> Option<Vec<f64>> {
    let (of, to) = (series(of, pointer)?, series(to, pointer)?);
    if of.len() != to.len() || to.iter().any(|number| *number <= 0.0) {
        return None;
    }
    Some(of.iter().zip(&to).map(|(of, to)| of / to).collect())
}

/// A number with as many decimals as it is worth; null for none.
pub(super) fn rounded(number: Option<f64>) -> Value {
    json!(number.map(three_decimals))
}

fn three_decimals(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// A ratio that has to reach a bound.
pub(super) struct Criterion {
    /// Of what to what.
    pub(super) what: String,
    /// Round by round; none: it could not be told.
    pub(super) ratios: Option<Vec<f64>>,
    /// The bound.
    pub(super) at_least: f64,
}

impl Criterion {
    /// The ratio that counts.
    pub(super) fn ratio(&self) -> Option<f64> {
        median(self.ratios.clone()?)
    }

    /// Whether it reaches the bound. One that could not be told does not.
    pub(super) fn holds(&self) -> bool {
        self.ratio().is_some_and(|ratio| ratio >= self.at_least)
    }

    /// As it is reported.
    pub(super) fn report(&self) -> Value {
        let ratios = self.ratios.iter().flatten().copied();
        json!({
            "what": self.what,
            "ratio": rounded(self.ratio()),
            "at_least": self.at_least,
            "ok": self.holds(),
            "ratios": ratios.map(three_decimals).collect::<Vec<_>>(),
        })
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let ratio = match self.ratio() {
            Some(ratio) => format!("{ratio:.3}"),
            None => "not known".to_owned(),
        };
        let verdict = if self.holds() { "ok" } else { "NOT ok" };
        format!(
            "{}: {ratio}, at least {}: {verdict}",
            self.what, self.at_least
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(rates: &[f64]) -> Vec<Value> {
        rates.iter().map(|rate| json!({"rate": rate})).collect()
    }

    /// Goal: the middle is found whatever the order, between two where there is none. Method: odd, even and no numbers.
    #[test]
    fn the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![5.0]), Some(5.0));
        assert_eq!(median(Vec::new()), None);
        assert_eq!(median_of(&reports(&[7.0, 8.0, 1.0]), "/rate"), Some(7.0));
    }

    /// Goal: what slows a whole round down changes no ratio, and nothing is made up for a number that is missing. Method: a
    /// machine that is ten times slower in one round; a report without the number; a rate of zero; a round too few.
    #[test]
    fn ratios_are_of_one_round() {
        let (of, to) = (reports(&[80.0, 8.0, 90.0]), reports(&[100.0, 10.0, 100.0]));
        assert_eq!(ratios(&of, &to, "/rate"), Some(vec![0.8, 0.8, 0.9]));
        assert_eq!(ratios(&of, &to, "/other"), None);
        assert_eq!(ratios(&of, &reports(&[1.0, 0.0, 1.0]), "/rate"), None);
        assert_eq!(ratios(&of, &reports(&[1.0, 1.0]), "/rate"), None);
    }

    /// Goal: a criterion holds from its bound on, by the round in the middle, and never without a figure. Method: ratios around the bound.
    #[test]
    fn a_criterion_has_a_bound() {
        let criterion = |ratios: Option<&[f64]>| Criterion {
            what: "one to another".to_owned(),
            ratios: ratios.map(<[f64]>::to_vec),
            at_least: 0.75,
        };
        assert!(criterion(Some(&[0.75])).holds());
        assert!(criterion(Some(&[0.2, 0.8, 0.9])).holds());
        assert!(!criterion(Some(&[0.9, 0.7, 0.74])).holds());
        assert!(!criterion(Some(&[])).holds());
        assert!(!criterion(None).holds());
        let report = criterion(Some(&[0.74])).report();
        assert_eq!(report["ratio"], 0.74);
        assert_eq!(report["ok"], false);
        assert_eq!(criterion(None).report()["ratio"], Value::Null);
        assert_eq!(
            criterion(Some(&[0.5])).text(),
            "one to another: 0.500, at least 0.75: NOT ok"
        );
    }
}
