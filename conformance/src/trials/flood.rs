//! Floods when it is told to, in one way after the other, with as many transactions under way as a link may have:
//! how much does the server take?

use std::io::{self, BufRead as _};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Hostile, TRANSACTIONS, fates, open, say};
use crate::failure::{Failure, Result};
use crate::padding::pad;
use crate::room::MESSAGE;
use crate::session::Session;
use crate::transaction::Envelope;
use crate::wire::Encoder;

/// Kinds of envelopes.
const TOMBSTONE: u8 = 8;
const GROUP_INFO_REQUEST: u8 = 13;
/// The code that the tombstones give: they expired.
const EXPIRED: u16 = 19;
/// Envelopes of a transaction: the most that one may have.
const BATCH: u64 = 1024;
/// After an answer that asks to wait: it does not wait as long as it is asked to.
const IMPATIENCE: Duration = Duration::from_millis(10);

/// What it floods with. The order matters: conflicts are about positions that were refused before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Envelopes that are accepted and have no effect.
    Tombstones,
    /// Requests for what does not exist, which are accepted and answered.
    Questions,
    /// Messages that can't be read.
    Rubbish,
    /// Other envelopes at positions that are taken.
    Conflicts,
}

const WAYS: [Way; 4] = [
    Way::Tombstones,
    Way::Questions,
    Way::Rubbish,
    Way::Conflicts,
];

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Tombstones => "tombstones",
            Self::Questions => "questions",
            Self::Rubbish => "rubbish",
            Self::Conflicts => "conflicts",
        }
    }

    fn envelope(self, place: Envelope, nonce: u64) -> Envelope {
        let (kind, payload) = match self {
            Self::Tombstones => {
                let one = Encoder::new().u32(1).u16(EXPIRED);
                (TOMBSTONE, one.finish())
            }
            Self::Questions => {
                let mut request = [0; 16];
                for (to, from) in request.iter_mut().zip(nonce.to_be_bytes()) {
                    *to = from;
                }
                let question = Encoder::new()
                    .fixed(&request)
                    .fixed(&place.lane)
                    .fixed(&[1; 16])
                    .fixed(&[2; 16]);
                (GROUP_INFO_REQUEST, question.finish())
            }
            Self::Rubbish | Self::Conflicts => (MESSAGE, nonce.to_be_bytes().to_vec()),
        };
        Envelope {
            kind,
            payload,
            expires_ms: 0,
            ..place
        }
    }
}

/// A connection with a lane of its own.
struct Flooder {
    session: Session,
    lane: [u8; 16],
    /// The next position.
    next: u64,
    /// Makes each payload another one.
    nonce: u64,
}

/// What became of a flood.
#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    /// Envelopes that a receipt answers.
    taken: u64,
    /// Transactions that were put off whole.
    put_off: u64,
}

/// The next line that it is told.
fn hear() -> JoinHandle<Result<String>> {
    tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(1..) => Ok(line.trim().to_owned()),
            _ => Err(Failure::Operator("nobody steers any more".to_owned())),
        }
    })
}

async fn heard(line: JoinHandle<Result<String>>) -> Result<String> {
    line.await
        .map_err(|error| Failure::Operator(error.to_string()))?
}

pub(super) async fn run(hostile: &mut Hostile) -> Result<Value> {
    let mut flooders = Vec::new();
    for number in 0..4_u8 {
        flooders.push(Flooder {
            session: open(&hostile.target, &hostile.peer).await?,
            lane: [0xf0 | number; 16],
            next: 1,
            nonce: 0,
        });
    }
    let Ok([a, b, c, d]) = <&mut [Flooder; 4]>::try_from(flooders.as_mut_slice()) else {
        return Ok(Value::Null);
    };
    say("ready")?;
    let mut found = [Taken::default(); 4];
    let mut turns = WAYS.iter().zip(0_usize..).cycle();
    loop {
        match heard(hear()).await?.as_str() {
            "go" => {}
            "end" => break,
            other => return Err(Failure::Operator(format!("`{other}` means nothing here"))),
        }
        let Some((way, index)) = turns.next() else {
            break;
        };
        let stop = hear();
        let parts = tokio::join!(
            a.flood(hostile, *way, &stop),
            b.flood(hostile, *way, &stop),
            c.flood(hostile, *way, &stop),
            d.flood(hostile, *way, &stop),
        );
        if heard(stop).await? != "rest" {
            return Err(Failure::Operator("`rest` was not said".to_owned()));
        }
        if let Some(sum) = found.get_mut(index) {
            for part in [parts.0, parts.1, parts.2, parts.3] {
                sum.taken = sum.taken.saturating_add(part.taken);
                sum.put_off = sum.put_off.saturating_add(part.put_off);
            }
        }
        say("resting")?;
    }
    let figures = WAYS.iter().zip(found).map(|(way, found)| {
        let figures = json!({ "taken": found.taken, "put_off": found.put_off });
        (way.name().to_owned(), figures)
    });
    Ok(Value::Object(figures.collect()))
}

impl Flooder {
    /// Sends until something is said.
    async fn flood(
        &mut self,
        hostile: &Hostile,
        way: Way,
        stop: &JoinHandle<Result<String>>,
    ) -> Taken {
        let mut found = Taken::default();
        let mut prepared = None;
        while !stop.is_finished() {
            let bytes = match prepared.take() {
                Some(bytes) => bytes,
                None => self.prepare(hostile, way),
            };
            let reply = self.session.post(TRANSACTIONS, bytes.clone()).await;
            let fates = fates(&reply, BATCH);
            if !fates.has_receipt() {
                // Anything else that is not a receipt is no answer to a flood.
                let later = matches!(&reply, Ok(reply) if matches!(reply.status, 429 | 503));
                found.put_off = found.put_off.saturating_add(u64::from(later));
                prepared = Some(bytes);
                if !self.session.is_open()
                    && let Ok(session) = open(&hostile.target, &hostile.peer).await
                {
                    self.session = session;
                }
                sleep(IMPATIENCE).await;
                continue;
            }
            let put_off = fates.deferred;
            found.taken = found.taken.saturating_add(BATCH.saturating_sub(put_off));
            if way != Way::Conflicts {
                self.next = self.next.saturating_add(BATCH.saturating_sub(put_off));
            }
        }
        found
    }

    /// A transaction at the next positions; of conflicts, at the last ones.
    fn prepare(&mut self, hostile: &Hostile, way: Way) -> Vec<u8> {
        let first = match way {
            Way::Conflicts => self.next.saturating_sub(BATCH).max(1),
            _ => self.next,
        };
        let envelopes: Vec<Envelope> = (first..first.saturating_add(BATCH))
            .map(|sequence| {
                self.nonce = self.nonce.saturating_add(1);
                let place = hostile.place(self.lane, sequence);
                way.envelope(place, self.nonce)
            })
            .collect();
        pad(&hostile.signed(&envelopes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no two envelopes of a flood are the same, where that matters. Method: two of each way.
    #[test]
    fn payloads_differ() {
        let place = || Envelope {
            version: 1,
            suite: 1,
            kind: 0,
            origin: String::new(),
            destination: String::new(),
            key_id: [0; 8],
            link_epoch: 1,
            lane: [1; 16],
            sequence: 1,
            created_ms: 0,
            expires_ms: 0,
            payload: Vec::new(),
            claimed_hash: None,
        };
        for way in WAYS {
            let [one, other] = [1, 2].map(|nonce| way.envelope(place(), nonce));
            assert_eq!(one.payload == other.payload, way == Way::Tombstones);
        }
    }
}
