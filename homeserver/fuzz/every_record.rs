//! Every reader of the store, given bytes that this homeserver may never have written: a new record family
//! is added here.

use std::future::{Future, ready};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use federation_proto::envelope::Lane;
use federation_proto::hash::Digest;
use federation_proto::ids::{
    AccountId, ConsortiumId, DeviceId, EvidenceId, FileId, Handle, ReportId, RequestId, RoomId,
    ServerName,
};
use federation_proto::merkle::Place;
use homeserver::store::{
    self, Engine, Key, Part, PartOutcome, Range, Read, Store, StoreError, Value, Write, account,
    administrators, allowance, audit, audit_heads, barriers, consortium, contacts, dead_letters,
    departure, device, device_log, engine, enrolment, evidence, exchange, expiry, file, group_info,
    inbox, key_claims, key_package, key_request, lane_base, lease, link_position, log_heads,
    look_up, node_row, notice, outbox, payload, peer, policy_serial, quarantine, reconcile,
    relayed, report, restored, room, schema, sealed, shared_keys, submit_state, tally, user_type,
};

/// Entries that one reader finds: more would let a reader that follows the keys go on for ever.
const FOUND_MAX: u32 = 3;

#[derive(Clone, Default)]
struct Answer {
    /// What follows the start of the range in each key that is found.
    suffix: Vec<u8>,
    value: Value,
    found: u32,
}

/// An engine that finds the same value everywhere.
#[derive(Default)]
struct Everywhere(Mutex<Answer>);

impl Engine for Everywhere {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> engine::Answer<'a, Vec<PartOutcome>> {
        Box::pin(ready(Ok(vec![PartOutcome::Committed; parts.len()])))
    }

    fn snapshot(&self) -> engine::Answer<'_, Box<dyn Read>> {
        let moment = self.0.lock().unwrap().clone();
        let moment: Box<dyn Read> = Box::new(Self(Mutex::new(moment)));
        Box::pin(ready(Ok(moment)))
    }
}

impl Read for Everywhere {
    fn get<'a>(&'a self, _: &'a [u8]) -> engine::Answer<'a, Option<Value>> {
        Box::pin(ready(Ok(Some(self.0.lock().unwrap().value.clone()))))
    }

    fn range<'a>(&'a self, range: Range<'a>) -> engine::Answer<'a, Vec<(Key, Value)>> {
        let mut answer = self.0.lock().unwrap();
        let key = [range.from, &answer.suffix].concat();
        if range.limit == 0 || key.as_slice() >= range.to || answer.found == FOUND_MAX {
            return Box::pin(ready(Ok(Vec::new())));
        }
        answer.found += 1;
        Box::pin(ready(Ok(vec![(key.into(), answer.value.clone())])))
    }
}

/// A store whose every entry is what it was last told.
pub struct Records {
    engine: Arc<Everywhere>,
    store: Store,
}

/// A read never waits here: the engine answers at once.
fn now<T>(read: impl Future<Output = T>) -> T {
    match pin!(read).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a reader waits for something other than the engine"),
    }
}

/// Runs something that reads and then writes as far as its first write, which is not waited for.
fn up_to_a_write<T>(job: impl Future<Output = T>) {
    let _ = pin!(job).poll(&mut Context::from_waker(Waker::noop()));
}

/// The value that a part writes last.
fn written(write: impl FnOnce(&mut Part) -> Result<(), StoreError>) -> Value {
    let mut part = Part::default();
    write(&mut part).unwrap();
    match part.writes.into_iter().next_back().unwrap() {
        Write::Put(_, value) | Write::Append { value, .. } => value,
        Write::Delete(_) | Write::Count { .. } | Write::Uncount { .. } => {
            panic!("a record is not written last")
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        let engine = Arc::new(Everywhere::default());
        let store = Store::new(Arc::<Everywhere>::clone(&engine)).unwrap();
        Self { engine, store }
    }
}

impl Records {
    fn find(&self, suffix: &[u8], value: Value) {
        *self.engine.0.lock().unwrap() = Answer {
            suffix: suffix.to_vec(),
            value,
            found: 0,
        };
    }

    /// A record that is read comes back the same when it is written and read again.
    fn round_trip<T: PartialEq>(
        &self,
        read: impl Fn(&Store) -> Option<T>,
        write: impl Fn(&mut Part, &T) -> Result<(), StoreError>,
    ) -> bool {
        self.engine.0.lock().unwrap().found = 0;
        let Some(record) = read(&self.store) else {
            return false;
        };
        let before = self.engine.0.lock().unwrap().suffix.clone();
        let value = self.engine.0.lock().unwrap().value.clone();
        self.find(&before, written(|part| write(part, &record)));
        assert!(read(&self.store).is_some_and(|again| again == record));
        self.find(&before, value);
        true
    }

    /// Gives every reader keys that end in `suffix` and the value `value`; tells how many record types
    /// the value was read as.
    pub fn read_every(&self, suffix: &[u8], value: &[u8]) -> usize {
        self.find(suffix, value.to_vec().into());
        let (account, device) = (
            AccountId::from_bytes([1; 16]),
            DeviceId::from_bytes([2; 16]),
        );
        let (room, file) = (RoomId::from_bytes([3; 16]), FileId::from_bytes([4; 16]));
        let lane = Lane::from_bytes([5; 16]);
        let server: ServerName = "a.example".parse().unwrap();
        let handle: Handle = "anna".parse().unwrap();
        let of = device::DeviceOf { account, device };
        let whose = file::Whose::Account(account);
        let mut read = 0;
        let mut count = |was_read: bool| read += usize::from(was_read);

        count(self.round_trip(
            |store| Some(now(node_row::get(store, "one")).ok()??.0),
            |part, record| node_row::put(part, "one", record, None).map(drop),
        ));
        count(self.round_trip(
            |store| Some(now(shared_keys::get(store)).ok()??.0),
            |part, keys| shared_keys::put(part, keys, None).map(drop),
        ));
        count(self.round_trip(
            |store| Some(now(account::get(store, account)).ok()??.0),
            |part, record| account::put(part, account, record),
        ));
        count(self.round_trip(
            |store| {
                now(administrators::get(store, &handle))
                    .ok()?
                    .map(|(record, _)| record)
            },
            |part, record| administrators::create(part, &handle, record),
        ));
        count(self.round_trip(
            |store| now(administrators::session(store, &[6; 32])).ok()?,
            |part, record| administrators::put_session(part, &[6; 32], record),
        ));
        count(self.round_trip(
            |store| Some(now(audit::head(store)).ok()?.0),
            audit::put_head,
        ));
        count(self.round_trip(
            |store| Some(now(audit::pending(store, 0, 1)).ok()?.pop()?.2),
            audit::put_pending,
        ));
        count(self.round_trip(
            |store| Some(now(audit::entries(store, 0, 1)).ok()?.pop()?.1),
            |part, entry| audit::put_entry(part, 1, entry),
        ));
        let id = ConsortiumId::from_bytes([9; 16]);
        count(self.round_trip(
            |store| Some(now(consortium::get(store, id)).ok()??.0),
            |part, record| consortium::put(part, id, record, None),
        ));
        count(self.round_trip(
            |store| {
                let (found, read) = now(contacts::get(store, account, 0)).ok()?;
                read.map(|_| found).filter(|found| !found.all().is_empty())
            },
            |part, found| contacts::put(part, account, found),
        ));
        count(self.round_trip(
            |store| now(dead_letters::newest(store, 1)).ok()?.pop(),
            dead_letters::append,
        ));
        count(self.round_trip(
            |store| Some(now(device::get(store, of)).ok()??.0),
            |part, record| device::put(part, of, record),
        ));
        count(self.round_trip(
            |store| now(device_log::read(store, 0, 1)).ok()?.pop(),
            device_log::append,
        ));
        count(self.round_trip(
            |store| Some(now(enrolment::get(store, of)).ok()??.0),
            |part, record| {
                // Written last, where a round trip looks: `put` notes the token after the record.
                let mut noted = Part::default();
                enrolment::put(&mut noted, of, record)?;
                part.writes.extend(noted.writes.into_iter().take(1));
                Ok(())
            },
        ));
        count(self.round_trip(
            |store| Some(now(enrolment::grant(store, account)).ok()??.0),
            |part, grant| enrolment::put_grant(part, account, *grant),
        ));
        count(self.round_trip(
            |store| {
                let (told, read) = now(log_heads::told(store, &server)).ok()?;
                read.map(|_| told)
            },
            |part, told| log_heads::put_told(part, &server, *told, None),
        ));
        count(self.round_trip(
            |store| Some(now(log_heads::known(store, &server)).ok()??.0),
            |part, known| log_heads::put_known(part, &server, known, None),
        ));
        count(self.round_trip(
            |store| {
                let (told, read) = now(audit_heads::told(store, &server)).ok()?;
                read.map(|_| told)
            },
            |part, told| audit_heads::put_told(part, &server, told, None),
        ));
        count(self.round_trip(
            |store| Some(now(audit_heads::witnessed(store, &server)).ok()??.0),
            |part, known| audit_heads::put_witnessed(part, &server, known, None),
        ));
        count(self.round_trip(
            |store| Some(now(file::get(store, file)).ok()??.0),
            |part, record| file::put(part, file, record).map(drop),
        ));
        count(self.round_trip(
            |store| Some(now(file::usage(store, &whose)).ok()?.0),
            |part, bytes| file::put_usage(part, &whose, None, *bytes),
        ));
        count(self.round_trip(
            |store| Some(now(inbox::range(store, device, 1, 1)).ok()?.pop()?.1),
            |part, record| {
                let source = record.source.as_ref();
                inbox::append(part, device, source, inbox::value(record)?);
                Ok(())
            },
        ));
        count(self.round_trip(
            |store| now(link_position::epoch(store, &server)).ok()?.record,
            |part, epoch| link_position::put_epoch(part, &server, &Default::default(), *epoch),
        ));
        count(self.round_trip(
            |store| {
                now(link_position::position(store, &server, lane))
                    .ok()?
                    .record
            },
            |part, at| {
                let before = now(link_position::position(&self.store, &server, lane))?;
                link_position::put_position(part, &server, lane, &before, at)
            },
        ));
        count(self.round_trip(
            |store| now(link_position::lane_count(store, &server)).ok()?.record,
            |part, count| link_position::put_lane_count(part, &server, &Default::default(), count),
        ));
        count(self.round_trip(
            |store| now(link_position::lane_pass(store, &server)).ok()?,
            |part, pass| link_position::put_lane_pass(part, &server, pass),
        ));
        count(self.round_trip(
            |store| now(link_position::recent(store, &server, lane, 1)).ok()?,
            |part, recent| link_position::put_recent(part, &server, lane, 1, recent),
        ));
        let (outbound, root) = (exchange::Direction::Outbound, Digest::from_bytes([9; 32]));
        count(self.round_trip(
            |store| now(exchange::all(store, outbound, &server)).ok()?.pop(),
            |part, record| exchange::put(part, outbound, &server, &root, record),
        ));
        count(self.round_trip(
            |store| Some(now(lane_base::get(store, &server, lane)).ok()??.0),
            |part, base| lane_base::put(part, &server, lane, base, None),
        ));
        count(self.round_trip(
            |store| {
                Some(
                    now(outbox::lane(store, &server, lane, 1, 1))
                        .ok()?
                        .pop()?
                        .row,
                )
            },
            |part, row| {
                outbox::append(part, &server, lane, outbox::value(row)?);
                Ok(())
            },
        ));
        count(self.round_trip(
            |store| Some(now(room::get(store, room)).ok()??.0),
            |part, record| room::put(part, room, None, record),
        ));
        count(self.round_trip(
            |store| now(group_info::get(store, room)).ok()?,
            |part, record| group_info::put(part, room, record),
        ));
        count(self.round_trip(
            |store| now(quarantine::get(store, &[9; 32])).ok()?,
            |part, record| quarantine::put(part, &[9; 32], record, None),
        ));
        let evidence = EvidenceId::from_bytes([9; 16]);
        count(self.round_trip(
            |store| Some(now(evidence::get(store, evidence)).ok()??.0),
            |part, record| evidence::open(part, evidence, record),
        ));
        count(self.round_trip(
            |store| Some(now(evidence::room(store, evidence, room)).ok()??.0),
            |part, row| evidence::put_room(part, evidence, room, row, None),
        ));
        count(self.round_trip(
            |store| now(evidence::keys(store, evidence, &[9; 32])).ok()?,
            |part, row| evidence::put_keys(part, evidence, &[9; 32], row),
        ));
        let reported = ReportId::from_bytes([9; 16]);
        count(self.round_trip(
            |store| Some(now(report::get(store, reported)).ok()??.0),
            |part, record| report::create(part, reported, record),
        ));
        count(self.round_trip(
            |store| Some(now(relayed::get(store, room, &server)).ok()??.0),
            |part, last| relayed::put(part, room, &server, None, *last),
        ));
        let claimer = key_claims::Claimer::Peer(server.clone());
        count(self.round_trip(
            |store| Some(now(key_claims::get(store, device, &claimer)).ok()??.0),
            |part, claims| key_claims::put(part, device, &claimer, *claims, None),
        ));
        let request = RequestId::from_bytes([8; 16]);
        count(self.round_trip(
            |store| Some(now(key_request::get(store, device, request)).ok()??.0),
            |part, record| {
                // Written last, where a round trip looks: `put` notes the expiry after the record.
                let mut noted = Part::default();
                key_request::put(&mut noted, device, request, record)?;
                part.writes.extend(noted.writes.into_iter().take(1));
                Ok(())
            },
        ));
        count(self.round_trip(
            |store| Some(now(look_up::get(store, device, request)).ok()??.0),
            |part, record| {
                // As above.
                let mut noted = Part::default();
                look_up::put(&mut noted, device, request, record)?;
                part.writes.extend(noted.writes.into_iter().take(1));
                Ok(())
            },
        ));
        let (look_ups, whose) = (
            allowance::Purpose::LookUp,
            allowance::Whose::Account(account),
        );
        count(self.round_trip(
            |store| Some(now(allowance::get(store, look_ups, &whose)).ok()??.0),
            |part, used| allowance::put(part, look_ups, &whose, *used, None),
        ));
        count(self.round_trip(
            |store| Some(now(submit_state::get(store, device)).ok()?.0),
            |part, state| state.clone().put(part, device),
        ));
        count(self.round_trip(
            |store| now(user_type::get(store, "standard")).ok()?,
            |part, policy| user_type::put(part, "standard", policy),
        ));
        count(self.round_trip(
            |store| Some(now(barriers::get(store)).ok()??.0),
            |part, record| barriers::put(part, record, None),
        ));
        if let Ok(Some((record, _))) = now(peer::get(&self.store, &server)) {
            // Its serial grows with each write, and is written beside it.
            let mut part = Part::default();
            let _ = peer::put(&mut part, &server, record, None);
            count(true);
        }
        count(sealed::WrappedKey::decode(value).is_some_and(|wrapped| wrapped.encode() == value));
        count(now(key_package::last_resort(&self.store, device)).is_ok());
        count(now(payload::get(&self.store, payload::PayloadId([7; 16]))).is_ok());
        drop(self.read_the_rest(suffix, of, &server, lane, &handle));
        read
    }

    /// Readers of keys, and of values that have no writer of their own.
    fn read_the_rest(
        &self,
        suffix: &[u8],
        of: device::DeviceOf,
        server: &ServerName,
        lane: Lane,
        handle: &Handle,
    ) -> Result<(), StoreError> {
        let store = &self.store;
        let value = self.engine.0.lock().unwrap().value.clone();
        let again = || self.find(suffix, value.clone());
        let mut part = Part::default();
        let _ = now(schema::check(store));
        let _ = now(lane_base::delete_some(store, &mut part, server, 10));
        again();
        let _ = now(tally::get(store, &tally::inbound(server)));
        let _ = now(tally::get(store, &tally::rooms(server)));
        let _ = now(account::by_handle(store, handle));
        again();
        let _ = now(account::handles(store, None, 10));
        again();
        let beginning = "ann".parse().unwrap();
        let _ = now(account::handles_with(store, &beginning, 10));
        again();
        let _ = now(audit::person(store, audit::Pseudonym([9; 16])));
        let zoe = "zoe@b.example".parse().unwrap();
        let _ = now(audit::pseudonym(store, &zoe));
        let _ = now(audit::forwarded(store));
        for level in [0, 1] {
            let place = Place { level, index: 0 };
            let _ = now(audit::node(store, place));
            let _ = now(audit::nodes(store, place, 10));
            again();
        }
        let _ = now(administrators::delete_ended_sessions(
            store, &mut part, 1, 10,
        ));
        again();
        let _ = now(consortium::all(store));
        again();
        up_to_a_write(dead_letters::delete_old(store, 1));
        let _ = now(device::account_of(store, of.device));
        let _ = now(device::by_token(store, &[6; 32]));
        again();
        let _ = now(device::of_account(store, of.account));
        again();
        let _ = now(enrolment::by_token(store, &[6; 32]));
        let _ = now(enrolment::of_account(store, of.account));
        again();
        let _ = now(departure::waiting(store, 10));
        again();
        let evidence = EvidenceId::from_bytes([9; 16]);
        let _ = now(evidence::before(store, None, 10));
        again();
        let _ = now(evidence::old(store, None, u64::MAX, 10));
        again();
        let _ = now(evidence::open_ones(store, None, None, 10));
        again();
        let _ = now(evidence::rooms(store, evidence, None, 10));
        again();
        let _ = now(evidence::delete_some(store, &mut part, evidence, 10));
        again();
        let _ = now(expiry::due(store, u64::MAX - 1, 10));
        again();
        let _ = now(expiry::next_ms(store));
        let _ = now(file::chunk(store, FileId::from_bytes([4; 16]), 1));
        again();
        let _ = now(inbox::leave_out_numbers(store, &mut part, of.device, 10));
        again();
        let _ = now(device::ids_after(store, None, 10));
        again();
        let _ = now(key_package::single_use(store, of.device, 10));
        again();
        let _ = now(key_package::void(store, &mut part, None, 10));
        again();
        let _ = now(key_claims::delete_all(store, &mut part, of.device));
        again();
        let _ = now(outbox::rows_after(store, server, None, 10));
        again();
        let _ = now(outbox::next_lane(store, server, Some(lane)));
        again();
        let _ = now(outbox::tails(store, server, 10));
        again();
        let _ = now(outbox::destinations(store));
        again();
        let _ = now(payload::is_awaited(store, payload::PayloadId([7; 16])));
        again();
        let _ = now(peer::all(store));
        again();
        let _ = now(quarantine::all(store, 10));
        again();
        let _ = now(report::before(store, None, 10));
        again();
        let _ = now(report::delete_old(store, &mut part, u64::MAX, 10));
        let _ = policy_serial::number(now(policy_serial::get(store))?.as_ref());
        let (state, _) = now(submit_state::get(store, of.device))?;
        let _ = now(state.outcome(store, of.device, 1));
        again();
        let _ = now(reconcile::left(store, server));
        again();
        let _ = now(restored::get(store));
        let node = node_row::Incarnation([8; 16]);
        again();
        let _ = now(lease::all(store));
        again();
        let _ = now(node_row::all(store));
        again();
        let _ = now(notice::read(store, node, (0, 10)));
        again();
        let _ = now(notice::delete_all(store, &mut part, node, 10));
        again();
        let _ = now(user_type::all(store));
        again();
        let _ = now(store::check::check(store));
        Ok(())
    }
}
