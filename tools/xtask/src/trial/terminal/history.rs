//! Messages on a new device: from an old one, and from a backup when all devices are lost.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{Lines, Trial, field, is, objects};
use crate::failure::{self, Result};
use crate::trial::person::Person;

/// What came before the new device, and what comes after it.
const BEFORE: [&str; 3] = ["the first", "the second", "the third, which burns"];
const AFTER: &str = "after all of them";

impl Trial<'_> {
    /// Every command about histories and backups, with the objects that they print.
    pub(super) fn history(&self, faults: &mut Vec<String>) -> Result<String> {
        let irma = Person::enrol(&self.stage.a, "irma", &self.ground.binaries)?;
        let jack = Person::enrol(&self.stage.b, "jack", &self.ground.binaries)?;
        let mut room = String::new();
        for text in BEFORE {
            let mut words = vec!["send", &irma.address, text, "--ttl", "1d"];
            if text.contains("burns") {
                words.extend(["--burn", "1h"]);
            }
            let sent = jack.run(&words)?;
            room = field(&sent, "room")?;
        }
        let (second, mut printed) = self.with_history(&irma, &jack, faults)?;
        // Jack's device asks who the new one is before it sends there.
        let mut following = Lines::open(jack.command(&["follow"]))?;
        printed += &irma.run(&["add", &room, &irma.address])?;
        let knows = following.until(|object| is(object, "devices-changed"));
        if knows.is_none() {
            faults.push("Jack was not told of the new device".to_owned());
        }
        drop(following);
        jack.send(&irma.address, AFTER)?;
        second.receive(1)?;
        let history = second.run(&["history", &jack.address])?;
        let expected: Vec<&str> = BEFORE.into_iter().chain([AFTER]).collect();
        texts_are("with the conversation", &history, &expected, faults)?;
        printed += &self.restored(&irma, &jack, &second, faults)?;
        Ok(printed)
    }

    /// A device that is approved with the messages of the old one has them, with their expiry, once.
    fn with_history(
        &self,
        irma: &Person,
        jack: &Person,
        faults: &mut Vec<String>,
    ) -> Result<(Person, String)> {
        let second = irma.further_device("second")?;
        let mut waits = Lines::open(second.enrolling(&self.stage.a, &irma.password_file()))?;
        let waiting = waits.until(|object| is(object, "waits-for-approval"));
        let code = waiting.and_then(|object| Some(object.get("code")?.as_str()?.to_owned()));
        let code = code.unwrap_or_default();
        let approved = irma.run(&["devices", "approve", &code, "--history"])?;
        if waits.until(|object| is(object, "enrolled")).is_none() {
            faults.push("a device that was approved with a history did not enrol".to_owned());
        }
        drop(waits);
        let history = second.run(&["history", &jack.address])?;
        texts_are("of the old device", &history, &BEFORE, faults)?;
        same_expiry(&irma.run(&["history", &jack.address])?, &history, faults)?;
        let is_marked = |object: &Value| object.get("from_history") == Some(&true.into());
        if !messages(&history)?.iter().all(is_marked) {
            faults.push(format!("not marked as a history: {history}"));
        }
        let rooms = second.run(&["rooms"])?;
        let second_id = own_device(&second)?;
        let again = irma.run(&["devices", "send-history", &second_id])?;
        let twice = second.run(&["history", &jack.address])?;
        texts_are("that was sent twice", &twice, &BEFORE, faults)?;
        Ok((second, approved + &history + &rooms + &again))
    }

    /// All devices are lost but a file and its code: a reset device has its messages back, once, but for those that burn.
    fn restored(
        &self,
        irma: &Person,
        jack: &Person,
        second: &Person,
        faults: &mut Vec<String>,
    ) -> Result<String> {
        let path = |name: &str| -> PathBuf { self.ground.folder.join(name) };
        let (file, code_file, wrong_file) = (path("backup"), path("code"), path("wrong-code"));
        let file = file.display().to_string();
        let made = second.run(&["backup", &file])?;
        let code = field(&made, "code")?;
        fs::write(&code_file, &code).map_err(failure::at(&code_file))?;
        // Another code that is one: two whole backups have two.
        let other = second.run(&["backup", &path("other-backup").display().to_string()])?;
        fs::write(&wrong_file, field(&other, "code")?).map_err(failure::at(&wrong_file))?;
        let lost = irma.further_device("third")?;
        let words = ["restore", &file, "--code-file"];
        let code_path = code_file.display().to_string();
        let early = lost.refused(&[&words[..], &[&code_path]].concat())?;
        if !early.contains("chat enrol") || !early.contains(&irma.address) {
            faults.push(format!("it is not said how to enrol: {early}"));
        }
        for device in [irma, second] {
            device.run(&["sign-out", "--yes"])?;
        }
        let third = irma.second_device(&self.stage.a, "third", &irma.password_file())?;
        let wrong_path = wrong_file.display().to_string();
        let wrong = third.refused(&[&words[..], &[&wrong_path]].concat())?;
        if !wrong.contains("another backup's") {
            faults.push(format!("a wrong code is not told: {wrong}"));
        }
        let mut printed = made + &early + &wrong;
        for count in [3_u64, 0] {
            let restored = third.run(&[&words[..], &[&code_path]].concat())?;
            let came = objects(&restored)?;
            if came.first().and_then(|object| object.get("messages")) != Some(&count.into()) {
                faults.push(format!("{count} were to be new: {restored}"));
            }
            printed += &restored;
        }
        let history = third.run(&["history", &jack.address])?;
        texts_are(
            "of the backup",
            &history,
            &[BEFORE[0], BEFORE[1], AFTER],
            faults,
        )?;
        // The way back into the conversation: Jack asks her by another way, confirms, and adds her.
        let room = field(&third.run(&["rooms"])?, "room")?;
        let refused = jack.refused(&["add", &room, &irma.address])?;
        if !refused.contains("unconfirmed") {
            faults.push(format!("a reset device came in unconfirmed: {refused}"));
        }
        jack.run(&["confirm", &irma.address])?;
        jack.run(&["add", &room, &irma.address])?;
        jack.send(&irma.address, "welcome back")?;
        third.receive(1)?;
        let back = third.run(&["history", &jack.address])?;
        texts_are(
            "after the way back",
            &back,
            &[BEFORE[0], BEFORE[1], AFTER, "welcome back"],
            faults,
        )?;
        Ok(printed)
    }
}

fn messages(printed: &str) -> Result<Vec<Value>> {
    let mut messages = objects(printed)?;
    messages.retain(|object| is(object, "message"));
    Ok(messages)
}

/// The id of a person's device.
fn own_device(person: &Person) -> Result<String> {
    let objects = objects(&person.run(&["devices"])?)?;
    let own = objects
        .iter()
        .find(|object| object.get("this") == Some(&true.into()));
    let id = own.and_then(|object| object.pointer("/device/device")?.as_str());
    Ok(id.unwrap_or_default().to_owned())
}

/// A history is these texts in this order.
fn texts_are(what: &str, printed: &str, expected: &[&str], faults: &mut Vec<String>) -> Result {
    let messages = messages(printed)?;
    let text = |message: &Value| message.pointer("/body/text")?.as_str().map(str::to_owned);
    let texts: Vec<String> = messages.iter().filter_map(text).collect();
    if texts != expected {
        faults.push(format!("the history {what} is {texts:?}"));
    }
    Ok(())
}

/// Each message expires at the same millisecond in both.
fn same_expiry(one: &str, other: &str, faults: &mut Vec<String>) -> Result {
    let times = |printed: &str| -> Result<Vec<Value>> {
        let messages = messages(printed)?;
        let time = |message: &Value| message.get("expires_ms").cloned();
        Ok(messages.iter().filter_map(time).collect())
    };
    let (one, other) = (times(one)?, times(other)?);
    if one != other || one.len() != BEFORE.len() {
        faults.push(format!("expiry was not kept: {one:?}, {other:?}"));
    }
    Ok(())
}
