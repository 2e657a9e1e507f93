//! `c`: with whom of other organisations each account has asked or decided something, in one record for
//! each account.
//!
//! One record, so that whoever judges by it binds its part to one key, and so that it is bounded as a
//! whole.

use std::cmp::Ordering;

use federation_proto::ids::{AccountId, Address, Handle, ServerName};
use federation_proto::limits::CONTACT_ASK_MS_MAX;
use serde::{Deserialize, Serialize};

use super::expiry::{self, Place};
use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "contacts";
const VERSION: u8 = 1;
const CONTACTS: u8 = b'c';

/// Most people of other organisations that one account's record holds.
pub const CONTACTS_MAX: usize = 500;
/// Most of them about whom the person has decided nothing: so that strangers leave room for decisions,
pub const UNDECIDED_MAX: usize = 250;
/// and most of those of one peer: so that one peer leaves room for the others.
pub const PEER_UNDECIDED_MAX: usize = 50;

const _: () = assert!(PEER_UNDECIDED_MAX < UNDECIDED_MAX && UNDECIDED_MAX < CONTACTS_MAX);

/// How an account stands with somebody of another organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// He has claimed key packages, or nothing holds any more: kept to know his account by its handle.
    Met,
    /// He has asked, with these words.
    AsksUs(String),
    /// The account has asked him, and lets him in meanwhile.
    Asked,
    /// He may start conversations.
    Allowed,
    /// He may not.
    Blocked,
}

/// Somebody of another organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// His homeserver.
    pub server: ServerName,
    /// His handle there.
    pub handle: Handle,
    /// His account, once he has said something.
    pub account: Option<AccountId>,
    /// How the account stands with him.
    pub standing: Standing,
    /// Whether he has said that he lets the account in.
    pub allows_us: bool,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When this is forgotten, milliseconds since the Unix epoch; 0: never.
    pub expires_ms: u64,
}

impl Contact {
    /// His address.
    pub fn address(&self) -> Address {
        Address {
            handle: self.handle.clone(),
            server: self.server.clone(),
        }
    }

    /// He stands so from now on; what is not decided is forgotten after a while.
    pub fn set(&mut self, standing: Standing, now_ms: u64) {
        self.expires_ms = match standing {
            Standing::Met | Standing::AsksUs(_) | Standing::Asked => {
                now_ms.saturating_add(CONTACT_ASK_MS_MAX)
            }
            Standing::Allowed | Standing::Blocked => 0,
        };
        self.standing = standing;
        self.since_ms = now_ms;
    }

    const fn is_undecided(&self) -> bool {
        matches!(self.standing, Standing::Met | Standing::AsksUs(_))
    }

    fn order(&self, server: &ServerName, handle: &Handle) -> Ordering {
        self.server
            .cmp(server)
            .then_with(|| self.handle.cmp(handle))
    }
}

/// Who somebody of another organisation is, as far as he is known.
#[derive(Debug, Clone, Copy)]
pub struct Outsider<'a> {
    /// His homeserver.
    pub server: &'a ServerName,
    /// His account.
    pub account: AccountId,
    /// His handle, where it was said.
    pub handle: Option<&'a Handle>,
}

/// Whether an account lets somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// It has said so.
    Given,
    /// It has said nothing, or waits for nobody.
    Open,
    /// It has said that it does not.
    Barred,
}

/// Everybody of other organisations that one account has to do with, by address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Contacts(Vec<Contact>);

impl Contacts {
    /// All of them, by address.
    pub fn all(&self) -> &[Contact] {
        &self.0
    }

    /// The one with this address.
    pub fn get(&self, server: &ServerName, handle: &Handle) -> Option<&Contact> {
        let place = self.find(server, handle).ok()?;
        self.0.get(place)
    }

    fn find(&self, server: &ServerName, handle: &Handle) -> Result<usize, usize> {
        self.0
            .binary_search_by(|contact| contact.order(server, handle))
    }

    /// Whether the account lets `outsider` in. A handle is never given to another account, so one under
    /// which another account is known says nothing for this one.
    pub fn consent(&self, outsider: &Outsider<'_>) -> Consent {
        let mut consent = Consent::Open;
        for contact in self.0.iter().filter(|c| c.server == *outsider.server) {
            let is_account = contact.account == Some(outsider.account);
            let is_handle = outsider.handle == Some(&contact.handle);
            match contact.standing {
                Standing::Blocked if is_account || is_handle => return Consent::Barred,
                Standing::Asked | Standing::Allowed
                    if is_account || (is_handle && contact.account.is_none()) =>
                {
                    consent = Consent::Given;
                }
                _ => {}
            }
        }
        consent
    }

    /// The one with this address, if need be a new one that is met now; `None` when there is no room for
    /// another. `decided`: the account itself has something to do with him.
    pub fn entry(
        &mut self,
        server: &ServerName,
        handle: &Handle,
        decided: bool,
        now_ms: u64,
    ) -> Option<&mut Contact> {
        if self.find(server, handle).is_err() && !self.make_room(server, decided) {
            return None;
        }
        let place = match self.find(server, handle) {
            Ok(place) => place,
            Err(place) => {
                let mut contact = Contact {
                    server: server.clone(),
                    handle: handle.clone(),
                    account: None,
                    standing: Standing::Met,
                    allows_us: false,
                    since_ms: 0,
                    expires_ms: 0,
                };
                contact.set(Standing::Met, now_ms);
                self.0.insert(place, contact);
                place
            }
        };
        self.0.get_mut(place)
    }

    /// Whether there is room for another one of `server`: whoever was met longest ago gives way.
    fn make_room(&mut self, server: &ServerName, decided: bool) -> bool {
        let undecided = |contact: &&Contact| contact.is_undecided();
        let of_peer = |contact: &&Contact| contact.server == *server;
        let peer_full =
            self.0.iter().filter(undecided).filter(of_peer).count() >= PEER_UNDECIDED_MAX;
        let full = match decided {
            true => self.0.len() >= CONTACTS_MAX,
            false => self.0.iter().filter(undecided).count() >= UNDECIDED_MAX,
        };
        if !(full || peer_full && !decided) {
            return true;
        }
        let oldest = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, contact)| contact.standing == Standing::Met)
            .filter(|(_, contact)| !peer_full || decided || contact.server == *server)
            .min_by_key(|(_, contact)| contact.since_ms)
            .map(|(place, _)| place);
        match oldest {
            Some(place) => {
                self.0.remove(place);
                true
            }
            None => false,
        }
    }

    /// Without those that are to be forgotten by `now_ms`.
    fn remembered(mut self, now_ms: u64) -> Self {
        self.0
            .retain(|contact| contact.expires_ms == 0 || contact.expires_ms > now_ms);
        self
    }

    fn next_expiry_ms(&self) -> Option<u64> {
        let expiries = self.0.iter().map(|contact| contact.expires_ms);
        expiries.filter(|expires_ms| *expires_ms != 0).min()
    }
}

/// The contacts of an account as of `now_ms`, and their stored bytes (for [`put`]).
pub async fn get(
    store: &Store,
    account: AccountId,
    now_ms: u64,
) -> Result<(Contacts, Option<Value>), StoreError> {
    match store.get(&key(account)).await? {
        Some(value) => {
            let contacts: Contacts = decode(FAMILY, VERSION, &value)?;
            Ok((contacts.remembered(now_ms), Some(value)))
        }
        None => Ok((Contacts::default(), None)),
    }
}

/// The part holds only while the contacts are as they were read.
pub fn require(part: &mut Part, account: AccountId, read: Option<Value>) {
    part.require(Precondition::unchanged(key(account), read));
}

/// Writes the contacts of an account, and when to look for those that are to be forgotten.
pub fn put(part: &mut Part, account: AccountId, contacts: &Contacts) -> Result<(), StoreError> {
    if contacts.0.is_empty() {
        part.delete(key(account));
        return Ok(());
    }
    if let Some(expires_ms) = contacts.next_expiry_ms() {
        expiry::put(part, expires_ms, Place::Contacts(account));
    }
    part.put(key(account), encode(FAMILY, VERSION, contacts)?);
    Ok(())
}

/// Deletes what is kept of an account that goes.
pub fn delete(part: &mut Part, account: AccountId) {
    part.delete(key(account));
}

fn key(account: AccountId) -> Key {
    [&[CONTACTS][..], account.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> ServerName {
        name.parse().unwrap()
    }

    fn handle(number: usize) -> Handle {
        format!("h{number}").parse().unwrap()
    }

    /// Goal: the stored form never changes unseen; by comparing with fixed bytes.
    #[test]
    fn stored_form() {
        let mut contacts = Contacts::default();
        let carol = "c".parse().unwrap();
        let contact = contacts
            .entry(&server("b.example"), &carol, true, 5)
            .unwrap();
        contact.account = Some(AccountId::from_bytes([2; 16]));
        contact.set(Standing::Allowed, 7);
        let mut part = Part::default();
        put(&mut part, AccountId::from_bytes([1; 16]), &contacts).unwrap();
        let mut expected = vec![1, 1, 9];
        expected.extend(b"b.example");
        expected.extend([1, b'c', 1]);
        expected.extend([2; 16]);
        expected.extend([3, 0, 7, 0]);
        let [crate::store::Write::Put(key, value)] = part.writes.as_slice() else {
            panic!("one write: {:?}", part.writes)
        };
        assert_eq!(key.as_ref(), [&b"c"[..], &[1; 16]].concat());
        assert_eq!(value.as_ref(), expected);
    }

    /// Goal: strangers never fill a record: one peer's share and that of all are bounded, whoever was met
    /// longest ago gives way, an open ask does not, and decisions find room; by adding more and more.
    #[test]
    fn strangers_leave_room() {
        let mut contacts = Contacts::default();
        let bad = server("bad.example");
        for number in 0..PEER_UNDECIDED_MAX {
            let now_ms = u64::try_from(number).unwrap();
            let met = contacts
                .entry(&bad, &handle(number), false, now_ms)
                .unwrap();
            if number > 0 {
                met.set(Standing::AsksUs(String::new()), now_ms);
            }
        }
        assert!(contacts.entry(&bad, &handle(1000), false, 99).is_some());
        assert_eq!(
            contacts.get(&bad, &handle(0)),
            None,
            "met first, went first"
        );
        contacts
            .entry(&bad, &handle(1000), false, 99)
            .unwrap()
            .set(Standing::AsksUs(String::new()), 99);
        assert!(contacts.entry(&bad, &handle(1001), false, 99).is_none());
        assert!(contacts.entry(&bad, &handle(1001), true, 99).is_some());
        for peer in 0..20 {
            let name = server(&format!("p{peer}.example"));
            for number in 0..PEER_UNDECIDED_MAX {
                if let Some(met) = contacts.entry(&name, &handle(number), false, 99) {
                    met.set(Standing::AsksUs(String::new()), 99);
                }
            }
        }
        let undecided = contacts.0.iter().filter(|c| c.is_undecided()).count();
        assert!(undecided <= UNDECIDED_MAX + 1, "{undecided}");
        let mut decided = 0;
        while let Some(contact) = contacts.entry(&server("b.example"), &handle(decided), true, 99) {
            contact.set(Standing::Blocked, 99);
            decided += 1;
        }
        assert_eq!(contacts.0.len(), CONTACTS_MAX);
        assert!(decided >= CONTACTS_MAX - UNDECIDED_MAX - 1, "{decided}");
    }

    /// Goal: a block holds by account and by handle, consent only for the account that it was given to; by
    /// asking for each.
    #[test]
    fn who_is_meant() {
        let (peer, other) = (server("b.example"), server("c.example"));
        let (bob, carol) = (handle(1), handle(2));
        let [first, second] = [1, 2].map(|byte| AccountId::from_bytes([byte; 16]));
        let mut contacts = Contacts::default();
        let outsider = |server, account, handle| Outsider {
            server,
            account,
            handle,
        };
        let mut stand = |account, standing| {
            let contact = contacts.entry(&peer, &bob, true, 1).unwrap();
            contact.account = account;
            contact.set(standing, 1);
            [
                contacts.consent(&outsider(&peer, first, Some(&bob))),
                contacts.consent(&outsider(&peer, first, None)),
                contacts.consent(&outsider(&peer, second, Some(&bob))),
                contacts.consent(&outsider(&peer, second, Some(&carol))),
                contacts.consent(&outsider(&other, first, Some(&bob))),
            ]
        };
        use Consent::{Barred, Given, Open};
        let given = [Given, Given, Open, Open, Open];
        assert_eq!(stand(Some(first), Standing::Allowed), given);
        assert_eq!(stand(Some(first), Standing::Asked), given);
        assert_eq!(
            stand(None, Standing::Allowed),
            [Given, Open, Given, Open, Open],
            "whoever comes with the handle first"
        );
        assert_eq!(
            stand(Some(first), Standing::Blocked),
            [Barred, Barred, Barred, Open, Open]
        );
        let asks = Standing::AsksUs(String::new());
        assert_eq!(stand(Some(first), asks), [Open; 5]);
    }
}
