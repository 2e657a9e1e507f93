//! Consent: who of the fake peer's people may start conversations with somebody of the server under test.

use super::{Asker, CONTROL, Case, Keys, Sent, World, Worlds, code};
use crate::arrived::Arrival;
use crate::failure::Result;
use crate::people::People;
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::room::{Device, MESSAGE, Room, WELCOME};
use crate::wire::{Decoder, Encoder};

/// The kind.
const CONTACT: u8 = 12;
/// What is said.
const ASK: u8 = 1;
const GRANT: u8 = 2;
const WITHDRAW: u8 = 3;
const REVOKE: u8 = 4;
/// Nobody has this handle.
const NOBODY: &str = "nobody-of-that-name";
/// Asks of one transaction, and most of them until one must be refused for their number.
const ASKS: usize = 250;
const ASKS_MAX: usize = 20_000;

/// Whom nobody has consented to.
const STRANGER: Asker = Asker {
    handle: "stranger",
    account: [0x51; 16],
    device: [0x61; 16],
};
/// Whom the person who decides for herself allows, and blocks later.
const FRIEND: Asker = Asker {
    handle: "friend",
    account: [0x52; 16],
    device: [0x62; 16],
};
/// Another account under the friend's handle.
const IMPOSTOR: Asker = Asker {
    handle: "friend",
    account: [0x53; 16],
    device: [0x63; 16],
};

fn contact(act: u8, who: &Asker, to: &str, text: &str) -> Vec<u8> {
    Encoder::new()
        .u8(act)
        .fixed(&who.account)
        .vector(1, who.handle.as_bytes())
        .vector(1, to.as_bytes())
        .vector(2, text.as_bytes())
        .finish()
}

/// A Contact that came: what is said, by whose account and handle, to whom.
fn read(arrival: &Arrival) -> Option<(u8, [u8; 16], String, String)> {
    if (arrival.kind, arrival.lane) != (CONTACT, CONTROL) {
        return None;
    }
    let mut input = Decoder::new(&arrival.payload);
    Some((input.u8()?, input.fixed()?, input.text(1)?, input.text(1)?))
}

async fn say(world: &World, act: u8, who: &Asker, to: &str) -> Result<Sent> {
    world.say(CONTROL, CONTACT, contact(act, who, to, "")).await
}

fn is_accepted(sent: &Sent) -> bool {
    sent.answers() == [Answer::Accepted]
}

fn is_refused(sent: &Sent, expected: u16) -> bool {
    matches!(sent.answers(), [Answer::Refused { code, .. }] if *code == expected)
}

/// What needs nobody of the server under test.
pub(super) async fn without_people(worlds: &Worlds<'_>) -> Result<Vec<Outcome>> {
    let world = &worlds.everything;
    Ok(vec![
        malformed(world).await?,
        scope(&worlds.little).await?,
        endings(&worlds.little).await?,
    ])
}

/// Contacts that say what no contact says.
async fn malformed(world: &World) -> Result<Outcome> {
    let with_text = contact(REVOKE, &STRANGER, NOBODY, "a text");
    let unknown = contact(5, &STRANGER, NOBODY, "");
    let long = contact(ASK, &STRANGER, NOBODY, &"a".repeat(281));
    let mut told = Vec::new();
    for payload in [with_text, unknown, long] {
        told.push(world.say(CONTROL, CONTACT, payload).await?);
    }
    let on_a_room = contact(ASK, &STRANGER, NOBODY, "");
    told.push(world.say(world.draw(), CONTACT, on_a_room).await?);
    let case = Case {
        id: "contact.malformed",
        requirement: "ENV-033",
        level: Level::Must,
        must: "a contact with a text that is no ask, of an unknown act, with a long text, or on a room's lane is \
               refused as malformed, alone",
        hint: "section 14 gives the structure and its bounds",
    };
    let ok = told.iter().all(|sent| is_refused(sent, code::MALFORMED));
    Ok(case.outcome(Finding::new(ok, described(&told))))
}

/// Asks and grants need the grant for `invite`.
async fn scope(little: &World) -> Result<Outcome> {
    let told = [
        say(little, ASK, &STRANGER, NOBODY).await?,
        say(little, GRANT, &STRANGER, NOBODY).await?,
    ];
    let case = Case {
        id: "contact.scope",
        requirement: "CONTACT-002",
        level: Level::Must,
        must: "asks and grants are refused where the agreement does not grant `invite`",
        hint: "judge them by both sides' grants, as a message",
    };
    let ok = told.iter().all(|sent| is_refused(sent, code::OUT_OF_SCOPE));
    Ok(case.outcome(Finding::new(ok, described(&told))))
}

/// What ends something is taken always.
async fn endings(little: &World) -> Result<Outcome> {
    let told = [
        say(little, WITHDRAW, &STRANGER, NOBODY).await?,
        say(little, REVOKE, &STRANGER, NOBODY).await?,
    ];
    let case = Case {
        id: "contact.endings",
        requirement: "CONTACT-002",
        level: Level::Must,
        must: "withdrawals and revocations are taken whatever is granted",
        hint: "whoever may not ask any more must still be able to take an ask back",
    };
    let ok = told.iter().all(is_accepted);
    Ok(case.outcome(Finding::new(ok, described(&told))))
}

fn described(all: &[Sent]) -> String {
    let all: Vec<String> = all.iter().map(Sent::describe).collect();
    all.join("; ")
}

/// What is tried with who decides for herself, in this order: each leaves her as the next needs her.
pub(super) async fn with_people(worlds: &Worlds<'_>, people: &People) -> Result<Vec<Outcome>> {
    let world = &worlds.everything;
    let address = format!("{}@{}", FRIEND.handle, world.peer.name);
    let mut outcomes = vec![
        silence(world, people).await?,
        without_consent(world, people).await?,
        unasked_grant(world, people).await?,
        stranger_adds(world, people).await?,
    ];
    worlds.operator.decide("allow", &address).await?;
    outcomes.push(consented_before(world, people).await?);
    outcomes.push(impostor(world, people).await?);
    outcomes.push(with_consent(world, people).await?);
    let room = room(world, people, &FRIEND);
    outcomes.push(friend_adds(world, &room).await?);
    let mark = world.mailbox.mark();
    worlds.operator.decide("block", &address).await?;
    outcomes.push(consent_is_taken_back(world, people, mark).await);
    outcomes.push(room_goes_on(world, &room).await?);
    outcomes.push(blocked(world, people).await?);
    outcomes.push(blocked_adds(world, people).await?);
    outcomes.push(many_asks(world, people).await?);
    Ok(outcomes)
}

/// Asks for somebody and for nobody.
async fn silence(world: &World, people: &People) -> Result<Outcome> {
    let mark = world.mailbox.mark();
    let told = [
        say(world, ASK, &STRANGER, NOBODY).await?,
        say(world, ASK, &STRANGER, &people.asking.handle).await?,
        say(world, ASK, &STRANGER, &people.hidden).await?,
    ];
    // The lane is in order: an answer would have come before this one.
    let (later, _) = world.ask_keys(&STRANGER, NOBODY).await?;
    let answers = world.mailbox.since(mark);
    let answered = answers.iter().filter_map(read).count();
    let case = Case {
        id: "contact.silence",
        requirement: "CONTACT-003",
        level: Level::Must,
        must: "an ask for somebody and one for nobody are accepted alike, and neither is answered",
        hint: "say nothing until the person has decided",
    };
    let ok = told.iter().all(is_accepted) && later.is_some() && answered == 0;
    let got = format!("{}; answered: {answered}", described(&told));
    Ok(case.outcome(Finding::new(ok, got)))
}

fn keys_told(keys: Option<&Keys>) -> String {
    keys.map_or_else(
        || "no answer in time".to_owned(),
        |keys| format!("{keys:?}"),
    )
}

/// Keys of who has not consented, while the ask waits.
async fn without_consent(world: &World, people: &People) -> Result<Outcome> {
    let (keys, _) = world.ask_keys(&STRANGER, &people.asking.handle).await?;
    let case = Case {
        id: "contact.keys-without-consent",
        requirement: "CONTACT-022",
        level: Level::Must,
        must: "a request for keys of who needs consent and has none is answered `consent-required`",
        hint: "consent is the asked person's; an ask is none",
    };
    let ok = keys.as_ref().and_then(Keys::code) == Some(code::CONSENT_REQUIRED);
    Ok(case.outcome(Finding::new(ok, keys_told(keys.as_ref()))))
}

/// Nobody lets himself in by a grant.
async fn unasked_grant(world: &World, people: &People) -> Result<Outcome> {
    let sent = say(world, GRANT, &STRANGER, &people.asking.handle).await?;
    let (keys, _) = world.ask_keys(&STRANGER, &people.asking.handle).await?;
    let case = Case {
        id: "contact.unasked-grant",
        requirement: "CONTACT-004",
        level: Level::Must,
        must: "a grant to who has neither asked nor consented has no effect",
        hint: "it is the consent of who sends it, not of who gets it",
    };
    let refused = keys.as_ref().and_then(Keys::code) == Some(code::CONSENT_REQUIRED);
    let got = format!(
        "{}; then keys: {}",
        sent.describe(),
        keys_told(keys.as_ref())
    );
    Ok(case.outcome(Finding::new(is_accepted(&sent) && refused, got)))
}

/// A room of the fake peer's, in which one of its people has the person who decides for herself.
fn room(world: &World, people: &People, writer: &Asker) -> Room {
    let writer = Device {
        account: writer.account,
        device: writer.device,
    };
    world.room(writer, people.asking.device())
}

/// A stranger adds her without keys of hers having been asked for.
async fn stranger_adds(world: &World, people: &People) -> Result<Outcome> {
    let room = room(world, people, &STRANGER);
    let sent = world.say(room.id, WELCOME, room.welcome()).await?;
    let case = Case {
        id: "contact.welcome-without-consent",
        requirement: "CONTACT-020",
        level: Level::Must,
        must: "a welcome by whom the added person has not consented to is refused as `consent-required`",
        hint: "key packages may have been claimed before: check again when a device is added",
    };
    let ok = is_refused(&sent, code::CONSENT_REQUIRED);
    Ok(case.outcome(Finding::new(ok, sent.describe())))
}

/// She has allowed somebody who asks then.
async fn consented_before(world: &World, people: &People) -> Result<Outcome> {
    let mark = world.mailbox.mark();
    let sent = say(world, ASK, &FRIEND, &people.asking.handle).await?;
    let granted = world.hears(mark, read).await;
    let expected = (
        GRANT,
        people.asking.account,
        people.asking.handle.clone(),
        FRIEND.handle.to_owned(),
    );
    let case = Case {
        id: "contact.consented-before",
        requirement: "CONTACT-006",
        level: Level::Must,
        must: "an ask of somebody whom the person has allowed already is answered with a grant",
        hint: "the person is not asked again",
    };
    let ok = is_accepted(&sent) && granted.as_ref() == Some(&expected);
    Ok(case.outcome(Finding::new(
        ok,
        format!("{}; then {granted:?}", sent.describe()),
    )))
}

/// A handle under which another account is known.
async fn impostor(world: &World, people: &People) -> Result<Outcome> {
    let mark = world.mailbox.mark();
    let sent = say(world, ASK, &IMPOSTOR, &people.asking.handle).await?;
    let (keys, _) = world.ask_keys(&IMPOSTOR, &people.asking.handle).await?;
    let answered = world.mailbox.since(mark).iter().filter_map(read).count();
    let case = Case {
        id: "contact.other-account",
        requirement: "CONTACT-001",
        level: Level::Must,
        must: "under a handle of which another account is known nobody is let in",
        hint: "handles are never given to another account: keep the first one",
    };
    let refused = keys.as_ref().and_then(Keys::code) == Some(code::CONSENT_REQUIRED);
    let got = format!(
        "{}; answered: {answered}; then keys: {}",
        sent.describe(),
        keys_told(keys.as_ref())
    );
    let ok = is_accepted(&sent) && answered == 0 && refused;
    Ok(case.outcome(Finding::new(ok, got)))
}

/// Keys of who has consented.
async fn with_consent(world: &World, people: &People) -> Result<Outcome> {
    let (keys, _) = world.ask_keys(&FRIEND, &people.asking.handle).await?;
    let asking = &people.asking;
    let device = (world.target.server.clone(), asking.account, asking.device);
    let case = Case {
        id: "contact.keys-with-consent",
        requirement: "ROOM-031",
        level: Level::Must,
        must: "a request for keys of who has consented is answered with those of the person's devices",
        hint: "the control of what is refused without consent",
    };
    let ok = matches!(&keys, Some(Keys::Of(devices, _)) if *devices == [device]);
    Ok(case.outcome(Finding::new(ok, keys_told(keys.as_ref()))))
}

/// The friend adds her.
async fn friend_adds(world: &World, room: &Room) -> Result<Outcome> {
    let sent = world.say(room.id, WELCOME, room.welcome()).await?;
    let case = Case {
        id: "contact.welcome-with-consent",
        requirement: "CONTACT-020",
        level: Level::Must,
        must: "a welcome by whom the added person has consented to is accepted",
        hint: "the control of what is refused without consent",
    };
    Ok(case.outcome(Finding::new(is_accepted(&sent), sent.describe())))
}

/// She blocks the friend.
async fn consent_is_taken_back(world: &World, people: &People, mark: usize) -> Outcome {
    let told = world.hears(mark, read).await;
    let case = Case {
        id: "contact.taken-back",
        requirement: "CONTACT-009",
        level: Level::Should,
        must: "who was let in is told when consent is taken back, by a revocation",
        hint: "the same whether the person was blocked or not",
    };
    let expected = |told: &(u8, [u8; 16], String, String)| {
        (told.0, told.1) == (REVOKE, people.asking.account) && told.3 == FRIEND.handle
    };
    case.outcome(Finding::new(
        told.as_ref().is_some_and(expected),
        format!("{told:?}"),
    ))
}

/// The end of consent ends no room.
async fn room_goes_on(world: &World, room: &Room) -> Result<Outcome> {
    let sent = world.say(room.id, MESSAGE, room.message(1)).await?;
    let case = Case {
        id: "contact.rooms-go-on",
        requirement: "CONTACT-023",
        level: Level::Must,
        must: "in a room that both are in, messages pass after consent has ended",
        hint: "consent is about who starts conversations",
    };
    Ok(case.outcome(Finding::new(is_accepted(&sent), sent.describe())))
}

/// Who is blocked can't tell her from nobody.
async fn blocked(world: &World, people: &People) -> Result<Outcome> {
    let (hers, _) = world.ask_keys(&FRIEND, &people.asking.handle).await?;
    let (nobodys, _) = world.ask_keys(&FRIEND, NOBODY).await?;
    let case = Case {
        id: "contact.blocked",
        requirement: "CONTACT-022",
        level: Level::Must,
        must: "a request of who is blocked is answered as for a person that there is not, word for word",
        hint: "`unknown-recipient`, with the same reason",
    };
    let unknown = hers.as_ref().and_then(Keys::code) == Some(code::UNKNOWN_RECIPIENT);
    let got = format!(
        "{}; for nobody: {}",
        keys_told(hers.as_ref()),
        keys_told(nobodys.as_ref())
    );
    Ok(case.outcome(Finding::new(unknown && hers == nobodys, got)))
}

/// Who is blocked adds her to another room.
async fn blocked_adds(world: &World, people: &People) -> Result<Outcome> {
    let room = room(world, people, &FRIEND);
    let sent = world.say(room.id, WELCOME, room.welcome()).await?;
    let case = Case {
        id: "contact.welcome-blocked",
        requirement: "CONTACT-020",
        level: Level::Must,
        must: "a welcome by whom the added person has blocked is refused as `unknown-recipient`",
        hint: "what was claimed before the block does not help",
    };
    let ok = is_refused(&sent, code::UNKNOWN_RECIPIENT);
    Ok(case.outcome(Finding::new(ok, sent.describe())))
}

/// Asks without end, and whether what is refused then tells anything of who is asked.
async fn many_asks(world: &World, people: &People) -> Result<Outcome> {
    let (mut asked, mut limited) = (0_usize, false);
    while asked < ASKS_MAX && !limited {
        let payloads = (0..ASKS).map(|_| contact(ASK, &STRANGER, NOBODY, ""));
        let sent = world.say_all(CONTROL, CONTACT, payloads.collect()).await?;
        if sent.answers().len() != ASKS {
            break;
        }
        let is_limit = |answer: &Answer| matches!(answer, Answer::Refused { code: why, .. } if *why == code::RATE_LIMITED);
        limited = sent.answers().iter().any(is_limit);
        asked = asked.saturating_add(ASKS);
    }
    let told = [
        say(world, ASK, &STRANGER, NOBODY).await?,
        say(world, ASK, &STRANGER, &people.asking.handle).await?,
    ];
    let [nobodys, hers] = &told;
    let alike = nobodys.answers() == hers.answers();
    let case = Case {
        id: "contact.bounded",
        requirement: "CONTACT-008",
        level: Level::Should,
        must: "one peer's asks are bounded within a time, and refused alike whomever they are for",
        hint: "`rate-limited`, before it is looked who is asked",
    };
    let got = format!(
        "limited after {asked} asks: {limited}; then {}",
        described(&told)
    );
    Ok(case.outcome(Finding::new(limited && alike, got)))
}
