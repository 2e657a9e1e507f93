//! The trial `terminal`: what people and scripts have of `chat`, by the real program against two homeservers.

mod devices;
mod history;
mod programs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use programs::{Lines, Screen};
use serde_json::Value;

use super::checks::{Check, Report};
use super::ground::Ground;
use super::person::Person;
use super::stage::Stage;
use crate::failure::{self, Failure, Result};
use crate::process;
use crate::workspace::Workspace;

/// Where the objects of `--json` are described.
const HOW_TO: &str = "docs/how-to/chat-in-the-terminal.md";
/// Bytes of the file that is sent.
const FILE_BYTES: usize = 300_000;
/// How long one object or one line of a screen may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long a homeserver may take to end in order.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Runs it.
pub(super) fn run(workspace: &Workspace) -> Result<Report> {
    let documented = Documented::read(&workspace.root.join(HOW_TO))?;
    Ground::lay(workspace, "t", |ground, report| {
        let stage = ground.stage("s", None, None)?;
        let trial = Trial {
            ground,
            documented,
            stage,
        };
        trial.checks(report)
    })
}

/// The table of objects: which fields each type has.
struct Documented(BTreeMap<String, Fields>);

struct Fields {
    always: BTreeSet<String>,
    sometimes: BTreeSet<String>,
    /// Whether it comes only when something goes wrong or changes.
    event: bool,
}

impl Documented {
    /// Rows `| `type` | `field`, `field`? | when |`; a question mark follows a field that may be absent.
    fn read(how_to: &Path) -> Result<Self> {
        let text = fs::read_to_string(how_to).map_err(failure::at(how_to))?;
        let mut types = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [kind, fields, when] = cells.as_slice() else {
                continue;
            };
            if *kind == "`type`" {
                continue;
            }
            let (mut always, mut sometimes) =
                (BTreeSet::from(["type".to_owned()]), BTreeSet::new());
            for field in fields.split(", ") {
                let (set, field) = match field.strip_suffix('?') {
                    Some(field) => (&mut sometimes, field),
                    None => (&mut always, field),
                };
                let field = field.trim_matches('`');
                if !field.is_empty() {
                    set.insert(field.to_owned());
                }
            }
            types.insert(
                kind.trim_matches('`').to_owned(),
                Fields {
                    always,
                    sometimes,
                    event: when.starts_with("event"),
                },
            );
        }
        if types.is_empty() {
            return Err(Failure::DidNotHold(format!(
                "{} describes no objects",
                how_to.display()
            )));
        }
        Ok(Self(types))
    }

    /// What is wrong with an object, if something is.
    fn judge(&self, object: &Value) -> Option<String> {
        let kind = object.get("type").and_then(Value::as_str);
        let Some(fields) = kind.and_then(|kind| self.0.get(kind)) else {
            return Some(format!("not described: {object}"));
        };
        let has: BTreeSet<String> = object
            .as_object()
            .map(|object| object.keys().cloned().collect())
            .unwrap_or_default();
        let missing: Vec<_> = fields.always.difference(&has).collect();
        let more: Vec<_> = has
            .iter()
            .filter(|field| !fields.always.contains(*field) && !fields.sometimes.contains(*field))
            .collect();
        (!missing.is_empty() || !more.is_empty())
            .then(|| format!("{object}: missing {missing:?}, not described {more:?}"))
    }
}

struct Trial<'a> {
    ground: &'a Ground<'a>,
    documented: Documented,
    stage: Stage,
}

impl Trial<'_> {
    fn checks(mut self, report: &mut Report) -> Result {
        let (alice, bob) = self.stage.people()?;
        let objects = process::step("every command", || self.every_command(&alice, &bob))?;
        report.checks.push(objects);
        let screen = process::step("a terminal", || self.screen(&alice, &bob))?;
        report.checks.push(screen);
        let windows = process::step("two terminals", || self.two_windows())?;
        report.checks.push(windows);
        let stop = process::step("a homeserver that stops", || self.stop(&alice))?;
        report.checks.push(stop);
        let end = process::step("password and sign-out", || self.end(&alice))?;
        report.checks.push(end);
        Ok(())
    }

    /// Each command's objects are as documented, each documented one that is no event appears, and a file
    /// comes out as it went in.
    fn every_command(&self, alice: &Person, bob: &Person) -> Result<Check> {
        let carol = Person::enrol(&self.stage.a, "carol", &self.ground.binaries)?;
        let path = |name: &str| self.ground.folder.join(name).display().to_string();
        let (sent, saved) = (path("report.bin"), path("saved.bin"));
        let bytes: Vec<u8> = (0..=250).cycle().take(FILE_BYTES).collect();
        fs::write(&sent, &bytes).map_err(failure::at(Path::new(&sent)))?;

        let mut printed = alice.enrolled.clone();
        let started = alice.run(&["start", &carol.address])?;
        let with_carol = field(&started, "room")?;
        printed += &started;
        printed += &alice.run(&[
            "send",
            &bob.address,
            "a text",
            "--ttl",
            "1d",
            "--burn",
            "30s",
        ])?;
        let file = alice.run(&["send-file", &bob.address, &sent])?;
        let (message, room) = (field(&file, "id")?, field(&file, "room")?);
        printed += &file;
        printed += &bob.receive(2)?;
        printed += &bob.run(&["save-file", &message, &saved])?;
        // In a conversation that Alice began Bob is a member, and adds nobody.
        printed += &bob.refused(&["add", &room, &carol.address])?;
        printed += &alice.run(&["role", &room, &bob.address, "moderator"])?;
        for words in [
            &["message", &message][..],
            &["history", &alice.address],
            &["rooms"],
            &["account"],
            &["devices"],
            &["add", &room, &carol.address],
            &["remove", &room, &carol.address],
            &["members", &room],
            &["number", &room],
            &["rename", &room, "Lunch"],
        ] {
            printed += &bob.run(words)?;
        }
        printed += &bob.refused(&["send", "nobody@b.example", "x"])?;
        let found = alice.run(&["find", &bob.address])?;
        let mut faults = Vec::new();
        if !found.contains(&bob.address) {
            faults.push(format!("Bob is not found: {found}"));
        }
        printed += &found;
        printed += &self.contacts(alice, &mut faults)?;
        printed += &self.ruled()?;
        printed += &self.devices(alice, bob, &mut faults)?;
        printed += &self.history(&mut faults)?;
        printed += &self.report(alice, bob, &room, &mut faults)?;
        // Somebody who is not of the hub's organisation can be brought over.
        let sara = Person::enrol(&self.stage.b, "sara", &self.ground.binaries)?;
        printed += &bob.run(&["add", &room, &sara.address])?;
        printed += &bob.run(&["successor", &room])?;
        printed += &alice.run(&["leave", &with_carol])?;

        let mut seen = BTreeSet::new();
        let mut count = 0_u64;
        for object in objects(&printed)? {
            count += 1;
            faults.extend(self.documented.judge(&object));
            seen.extend(
                object
                    .get("type")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
        }
        // The third only a homeserver that keeps a device back makes it print, the last one somebody who can't be reached.
        let later = [
            "password-changed",
            "signed-out",
            "device-unlisted",
            "not-invited",
        ];
        for (kind, fields) in &self.documented.0 {
            if !fields.event && !seen.contains(kind) && !later.contains(&kind.as_str()) {
                faults.push(format!("no command printed `{kind}`"));
            }
        }
        if fs::read(&saved).map_err(failure::at(Path::new(&saved)))? != bytes {
            faults.push("the saved file is not the one that was sent".to_owned());
        }
        Ok(Check {
            id: "objects-as-documented",
            must: format!(
                "every object that `chat --json` prints is one of {HOW_TO}, and a file comes out as it went in"
            ),
            got: if faults.is_empty() {
                format!("{count} objects of {} types", seen.len())
            } else {
                faults.join("; ")
            },
            ok: Some(faults.is_empty()),
            control: None,
        })
    }

    /// Somebody who wants less than her organisation allows, and whom it asks for her password again and to agree to a notice.
    fn ruled(&self) -> Result<String> {
        let (a, binaries) = (&self.stage.a, &self.ground.binaries);
        let rhea = Person::enrol(a, "rhea", binaries)?;
        let password = rhea.password_file().display().to_string();
        let mut printed = rhea.run(&["rules", "--ttl-max", "1d"])?;
        printed += &rhea.run(&["sign-in", "--password-file", &password])?;
        printed += &rhea.run(&["agree", "--yes"])?;
        a.hsctl(&["user-type", "set", "noticed", "--banner", "For work alone."])?;
        a.hsctl(&["user", "change", "rhea", "--type", "noticed"])?;
        printed += &rhea.run(&["agree", "--yes"])?;
        Ok(printed)
    }

    /// Somebody whose user type wants to be asked is reached after consent, and not before; and one who is
    /// blocked is told nothing.
    fn contacts(&self, alice: &Person, faults: &mut Vec<String>) -> Result<String> {
        self.stage
            .b
            .hsctl(&["user-type", "set", "standard", "--outside-contacts", "ask"])?;
        let dora = Person::enrol(&self.stage.b, "dora", &self.ground.binaries)?;
        let refused = alice.refused(&["start", &dora.address])?;
        if !refused.contains("consent-required") {
            faults.push(format!("Dora was not to be reached: {refused}"));
        }
        let mut following = Lines::open(dora.command(&["follow"]))?;
        let mut printed = alice.run(&["contact", "ask", &dora.address, "--text", "the fair"])?;
        let asked = following.until(|object| is(object, "contact-changed"));
        if !asked.is_some_and(|object| object.to_string().contains("the fair")) {
            faults.push("Dora was not told that Alice asks".to_owned());
        }
        drop(following);
        let mut following = Lines::open(alice.command(&["follow"]))?;
        printed += &dora.run(&["contact", "allow", &alice.address])?;
        if following
            .until(|object| is(object, "contact-changed"))
            .is_none()
        {
            faults.push("Alice was not told that Dora allows her".to_owned());
        }
        drop(following);
        printed += &alice.run(&["start", &dora.address])?;
        printed += &dora.run(&["contact", "list"])?;
        printed += &dora.run(&["contact", "block", &alice.address])?;
        let blocked = alice.refused(&["start", &dora.address])?;
        if !blocked.contains("unknown-recipient") {
            faults.push(format!("Dora does not exist for Alice: {blocked}"));
        }
        printed += &dora.run(&["contact", "remove", &alice.address])?;
        self.stage
            .b
            .hsctl(&["user-type", "set", "standard", "--outside-contacts", "open"])?;
        Ok(printed + &refused + &blocked)
    }

    /// What somebody reports to both organisations stands at both, without his name at the other one.
    fn report(
        &self,
        alice: &Person,
        bob: &Person,
        room: &str,
        faults: &mut Vec<String>,
    ) -> Result<String> {
        alice.send(&bob.address, "something bad")?;
        let message = field(&bob.receive(1)?, "id")?;
        let printed = bob.run(&["report", room, &message, "--reason", "spam", "--to", "both"])?;
        let at = |server: &crate::trial::Homeserver| -> Result<String> {
            let list = server.hsctl(&["reports", "list"])?;
            let listed: Value = super::homeserver::read("hsctl reports list", &list)?;
            let first = listed.pointer("/reports/0/report").and_then(Value::as_str);
            first.map_or(Ok(String::new()), |report| {
                server.hsctl(&["reports", "show", report])
            })
        };
        let mut at_a = String::new();
        super::stage::wait_until(PATIENCE, "a.example has the report", || {
            at_a = at(&self.stage.a)?;
            Ok(!at_a.is_empty())
        })?;
        let at_b = at(&self.stage.b)?;
        if !at_b.contains("something bad") || !at_b.contains(&bob.name) {
            faults.push(format!("b.example's report: {at_b}"));
        }
        if !at_a.contains("something bad") || at_a.contains(&bob.name) {
            faults.push(format!("a.example's report: {at_a}"));
        }
        Ok(printed)
    }

    /// What is typed into `chat talk` in a terminal goes out and stands there with what became of it, what
    /// the other side says appears, and `/quit` gives the terminal back.
    fn screen(&self, alice: &Person, bob: &Person) -> Result<Check> {
        let mut screen = Screen::open(&alice.typed(&["talk", &bob.address]))?;
        let mut missing = Vec::new();
        for (keys, shown) in [
            ("", bob.address.as_str()),
            ("/help\r", "/quit"),
            ("typed by hand\r", "accepted"),
        ] {
            screen.types(keys)?;
            if !screen.shows(shown) {
                missing.push(shown);
            }
        }
        if !bob
            .run(&["history", &alice.address])?
            .contains("typed by hand")
        {
            missing.push("`typed by hand` at Bob's");
        }
        bob.send(&alice.address, "an answer")?;
        if !screen.shows("an answer") {
            missing.push("an answer");
        }
        screen.types("/quit\r")?;
        let ended = screen.ends();
        Ok(Check {
            id: "talk-in-a-terminal",
            must: "`chat talk` shows the conversation, what is typed, what became of it and what comes, and ends".to_owned(),
            got: if missing.is_empty() && ended {
                "all of it".to_owned()
            } else {
                format!("missing {missing:?}, ended {ended}; the screen:\n{}", screen.text)
            },
            ok: Some(missing.is_empty() && ended),
            control: None,
        })
    }

    /// Two people who have never spoken open a window each: once one after the other, with the first one's text
    /// waiting, and once both at the same moment. What each types appears in the other's window.
    fn two_windows(&self) -> Result<Check> {
        let mut missing = Vec::new();
        for (at_once, (left, right)) in [(false, ("erin", "fred")), (true, ("gina", "hugo"))] {
            let left = Person::enrol(&self.stage.a, left, &self.ground.binaries)?;
            let right = Person::enrol(&self.stage.b, right, &self.ground.binaries)?;
            if !at_once {
                left.send(&right.address, "good morning")?;
            }
            let mut windows = [
                (
                    Screen::open(&left.typed(&["talk", &right.address]))?,
                    "from the left",
                ),
                (
                    Screen::open(&right.typed(&["talk", &left.address]))?,
                    "from the right",
                ),
            ];
            for (window, _) in &mut windows {
                if !window.shows("/help for more") {
                    missing.push(format!("a window's heading (at once: {at_once})"));
                }
            }
            for (window, text) in &mut windows {
                window.types(&format!("{text}\r"))?;
            }
            let [(first, from_first), (second, from_second)] = &mut windows;
            for (window, text) in [(first, from_second), (second, from_first)] {
                if !window.shows(text) {
                    missing.push(format!(
                        "`{text}` (at once: {at_once}); the screen:\n{}",
                        window.text
                    ));
                }
                window.types("/quit\r")?;
                if !window.ends() {
                    missing.push("the end of a window".to_owned());
                }
            }
        }
        Ok(Check {
            id: "two-windows-one-conversation",
            must: "two people who open `chat talk` with each other, at once or one after the other, read each other"
                .to_owned(),
            got: if missing.is_empty() {
                "both read each other, both times".to_owned()
            } else {
                format!("missing: {}", missing.join("; "))
            },
            ok: Some(missing.is_empty()),
            control: None,
        })
    }

    /// A homeserver that is asked to end tells its sessions (close code 1001) before it goes, and a client
    /// is back by itself when the homeserver is.
    fn stop(&mut self, alice: &Person) -> Result<Check> {
        let mut following = Lines::open(alice.command(&["follow"]))?;
        let connected = following.until(|object| is(object, "connected"));
        let status = self.stage.a.terminate(STOP_MAX)?;
        let told = following.until(|object| is(object, "disconnected"));
        self.stage.a.start()?;
        let back = following.until(|object| is(object, "connected"));
        let reason = told
            .as_ref()
            .and_then(|object| object.get("reason"))
            .and_then(Value::as_str)
            .unwrap_or("nothing")
            .to_owned();
        let ok =
            connected.is_some() && back.is_some() && reason.contains("stops") && status == Some(0);
        Ok(Check {
            id: "a-stop-is-told",
            must: format!(
                "SIGTERM: sessions are told that the homeserver stops, it ends with status 0 within {} s, and clients come back",
                STOP_MAX.as_secs()
            ),
            got: format!(
                "told \"{reason}\", exit status {status:?}, back: {}",
                back.is_some()
            ),
            ok: Some(ok),
            control: None,
        })
    }

    /// A changed password counts at once, and a device that is signed out is gone at both ends.
    fn end(&self, alice: &Person) -> Result<Check> {
        let new = self.ground.folder.join("new-password");
        fs::write(&new, "another password of hers\n").map_err(failure::at(&new))?;
        let mut printed = alice.run(&[
            "password",
            "--password-file",
            &alice.password_file().display().to_string(),
            "--new-password-file",
            &new.display().to_string(),
        ])?;
        let old_is_refused = alice.second_device(&self.stage.a, "old", &alice.password_file());
        let second = alice.second_device(&self.stage.a, "new", &new)?;
        printed += &alice.run(&["sign-out", "--yes"])?;
        let devices = objects(&second.run(&["devices"])?)?.len();
        let folder_is_gone = !alice.device_folder().exists();
        let faults: Vec<String> = objects(&printed)?
            .iter()
            .filter_map(|object| self.documented.judge(object))
            .collect();
        let ok = old_is_refused.is_err() && devices == 1 && folder_is_gone && faults.is_empty();
        Ok(Check {
            id: "password-and-sign-out",
            must: "the old password enrols no device any more, and a signed-out device is gone from the account and from the disk".to_owned(),
            got: format!("old password refused: {}, devices left: {devices}, folder gone: {folder_is_gone}, objects: {faults:?}", old_is_refused.is_err()),
            ok: Some(ok),
            control: None,
        })
    }
}

fn is(object: &Value, kind: &str) -> bool {
    object.get("type").and_then(Value::as_str) == Some(kind)
}

fn objects(printed: &str) -> Result<Vec<Value>> {
    printed
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| super::homeserver::read("chat", line))
        .collect()
}

/// A field of the first object.
fn field(printed: &str, name: &str) -> Result<String> {
    let objects = objects(printed)?;
    let value = objects.iter().find_map(|object| object.get(name)?.as_str());
    value.map(str::to_owned).ok_or_else(|| Failure::Unexpected {
        program: "chat".to_owned(),
        what: format!("no `{name}`: {printed}"),
    })
}
