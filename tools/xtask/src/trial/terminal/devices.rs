//! Devices that come and go: approval, declining, a reset that the other side confirms, a sign-out from afar.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::{Lines, Trial, field, is};
use crate::failure::Result;
use crate::trial::person::Person;

/// A device that is signed out from another one is cut within this time after the command that does it.
const CUT_MS_MAX: u128 = 1000;

impl Trial<'_> {
    /// Every command about devices, with the objects that they print.
    pub(super) fn devices(
        &self,
        alice: &Person,
        bob: &Person,
        faults: &mut Vec<String>,
    ) -> Result<String> {
        let password = alice.password_file();
        let mut printed = self.declined(alice, &password, faults)?;
        let (second, waited) = self.approved(alice, &password, faults)?;
        printed += &waited;
        printed += &self.cut(alice, &second, faults)?;
        printed += &confirmed(self, alice, bob, faults)?;
        Ok(printed)
    }

    /// A device that is turned away is none.
    fn declined(
        &self,
        alice: &Person,
        password: &Path,
        faults: &mut Vec<String>,
    ) -> Result<String> {
        let stranger = alice.further_device("stranger")?;
        let mut waits = Lines::open(stranger.enrolling(&self.stage.a, password))?;
        let Some(object) = waits.until(|object| is(object, "waits-for-approval")) else {
            faults.push("a second device did not wait".to_owned());
            return Ok(String::new());
        };
        let mut printed = format!("{object}\n");
        let code = text(&object, "code").unwrap_or_default();
        printed += &alice.run(&["devices"])?;
        printed += &alice.refused(&["devices", "approve", "0000-0000-0000"])?;
        printed += &alice.run(&["devices", "decline", &code])?;
        if waits.until(|object| is(object, "error")).is_none() {
            faults.push("a device that was declined was not told".to_owned());
        }
        Ok(printed)
    }

    /// A device whose code is approved is one.
    fn approved(
        &self,
        alice: &Person,
        password: &Path,
        faults: &mut Vec<String>,
    ) -> Result<(Person, String)> {
        let second = alice.further_device("second")?;
        let mut waits = Lines::open(second.enrolling(&self.stage.a, password))?;
        let waiting = waits.until(|object| is(object, "waits-for-approval"));
        let code = waiting.and_then(|object| text(&object, "code"));
        let code = code.unwrap_or_default();
        let printed = alice.run(&["devices", "approve", &code.to_lowercase()])?;
        if waits.until(|object| is(object, "enrolled")).is_none() {
            faults.push("an approved device did not enrol".to_owned());
        }
        Ok((second, printed))
    }

    /// A session ends within a second of its device's removal elsewhere.
    fn cut(&self, alice: &Person, second: &Person, faults: &mut Vec<String>) -> Result<String> {
        let own = field(&alice.enrolled, "address")?;
        let mut following = Lines::open(second.command(&["follow"]))?;
        if following.until(|object| is(object, "connected")).is_none() {
            faults.push("an approved device has no session".to_owned());
        }
        let devices = super::objects(&alice.run(&["devices"])?)?;
        let other = devices
            .iter()
            .find(|object| is(object, "device") && object.get("this") == Some(&false.into()))
            .and_then(|object| text(object.get("device")?, "device"));
        let Some(other) = other else {
            faults.push(format!("{own} has no second device"));
            return Ok(String::new());
        };
        let printed = alice.run(&["devices", "remove", &other, "--yes"])?;
        let removed = Instant::now();
        if following
            .until(|object| is(object, "disconnected"))
            .is_none()
            || removed.elapsed().as_millis() > CUT_MS_MAX
        {
            faults.push(format!(
                "a removed device's session ended {} ms after its removal",
                removed.elapsed().as_millis()
            ));
        }
        Ok(printed)
    }
}

fn text(object: &Value, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_owned)
}

/// What is written to somebody with a reset device waits until he is confirmed; and both read one safety number.
fn confirmed(
    trial: &Trial<'_>,
    alice: &Person,
    bob: &Person,
    faults: &mut Vec<String>,
) -> Result<String> {
    let hers = alice.run(&["safety", &bob.address])?;
    let his = bob.run(&["safety", &alice.address])?;
    if field(&hers, "digits")? != field(&his, "digits")? {
        faults.push(format!("two safety numbers: {hers} {his}"));
    }
    let reset = bob.second_device(&trial.stage.b, "reset", &bob.password_file())?;
    let after = alice.run(&["safety", &bob.address])?;
    let is_newest = |line: &str| line.contains("\"newest\":true");
    if !is_newest(&hers) || !is_newest(&his) || !is_newest(&after) {
        faults.push(format!("no newest safety number: {hers} {his} {after}"));
    }
    if field(&hers, "digits")? == field(&after, "digits")? {
        faults.push(format!(
            "the safety number stayed although a device came: {hers} {after}"
        ));
    }
    let printed = alice.run(&["confirm", &bob.address])?;
    reset.run(&["sign-out", "--yes"])?;
    Ok(hers + &his + &after + &printed)
}
