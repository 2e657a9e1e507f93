//! What is known of people's devices, for another own device; and what another one knew.

use homeserver_api::codec::Wire as _;
use homeserver_api::device_log::{DeviceChain, DeviceStatement};
use homeserver_api::ids::{Address, Member};

use super::{Person, Standing};
use crate::core::Core;
use crate::error::Error;
use crate::history::PastPerson;

impl Core {
    /// Whom this device has met, but for its own account, and what a person has confirmed of them.
    pub(in crate::core) fn past_people(&self) -> Result<Vec<PastPerson>, Error> {
        let own = &self.identity.member;
        let others = self
            .known
            .people
            .iter()
            .filter(|((server, account), _)| (server, *account) != (&own.server, own.account));
        others
            .map(|((server, account), person)| {
                let statements: Result<Vec<_>, _> = person
                    .chain
                    .statements()
                    .iter()
                    .map(|statement| statement.to_bytes().map(|bytes| bytes.to_vec()))
                    .collect();
                Ok(PastPerson {
                    server: server.clone(),
                    account: *account,
                    handle: person.address.handle.clone(),
                    confirmed: person.confirmed,
                    statements: statements.map_err(|e| Error::Store(e.to_string()))?,
                })
            })
            .collect()
    }

    /// Takes over what another own device knew of somebody; whether that was of use. Where both know an account, the longer
    /// history counts and what either has confirmed; two that don't agree are told, and this device's own stands.
    pub(in crate::core) fn take_past_person(&mut self, past: PastPerson) -> Result<bool, Error> {
        let own = &self.identity.member;
        if (&past.server, past.account) == (&own.server, own.account) {
            return Ok(false);
        }
        let address = Address {
            handle: past.handle,
            server: past.server.clone(),
        };
        let statements: Result<Vec<_>, _> = past
            .statements
            .into_iter()
            .map(DeviceStatement::from_bytes)
            .collect();
        let judged = statements
            .ok()
            .and_then(|statements| DeviceChain::judge(past.account, statements).ok())
            .filter(|chain| chain.serial() > 0);
        let Some(chain) = judged else {
            return Ok(false);
        };
        let confirmed = past.confirmed.min(chain.serial());
        let key = (past.server, past.account);
        // As with one whom this device meets: an address does not go over to another account by itself.
        let is_another = self.known.is_met(&address);
        match self.known.people.get_mut(&key) {
            None => {
                let number = self.state.last_person + 1;
                self.state.last_person = number;
                let confirmed = if is_another { 0 } else { confirmed };
                let person = Person::new(number, address, chain, confirmed);
                self.known.people.insert(key.clone(), person);
            }
            Some(person) if !person.chain.agrees_with(&chain) => {
                let reason = format!(
                    "another device of yours knows another history of {address}'s devices than this one was shown: one of \
                     the two was lied to"
                );
                self.tell_refused(&key.0, Some(&address), reason);
                return Ok(false);
            }
            Some(person) => {
                let is_longer = chain.serial() > person.chain.serial();
                if !is_longer && confirmed <= person.confirmed {
                    return Ok(false);
                }
                if is_longer {
                    person.chain = chain;
                }
                person.confirmed = person.confirmed.max(confirmed);
            }
        }
        self.put_person(&key)?;
        self.known_better(&key)?;
        Ok(true)
    }

    /// Whether the account has this device, with this key, and nobody has to confirm it.
    pub(in crate::core) fn is_listed(&self, member: &Member, key: &[u8]) -> bool {
        self.known.standing(member, key) == Standing::Listed
    }
}
