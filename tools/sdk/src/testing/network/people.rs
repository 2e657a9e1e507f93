//! Who is where: key packages for whoever asks, and look-ups.

use homeserver_api::ids::{Address, Member, ServerName};
use homeserver_api::refusal::{Refusal, RefusalCode};
use homeserver_api::session::{ClaimedDevice, Listing, Sought};

use super::Network;

impl Network {
    pub(super) fn claim(
        &mut self,
        from: &Member,
        address: &Address,
    ) -> Result<Vec<ClaimedDevice>, Refusal> {
        if let Some(refusal) = self.refuse_claims.get(address) {
            return Err(refusal.clone());
        }
        let address = self.swap_claims.get(address).unwrap_or(address).clone();
        let members = self.accounts.get(&address).cloned().ok_or_else(|| {
            Refusal::new(RefusalCode::UnknownRecipient, "there is no such account")
        })?;
        let mut claimed = Vec::new();
        for member in members.into_iter().filter(|member| member != from) {
            let device = self.devices.get_mut(&member).unwrap();
            let key_package = if device.key_packages.is_empty() {
                device.last_resort.clone()
            } else {
                Some(device.key_packages.remove(0))
            };
            if let Some(key_package) = key_package {
                claimed.push(ClaimedDevice {
                    member,
                    key_package,
                });
            }
        }
        if claimed.is_empty() {
            return Err(Refusal::new(RefusalCode::NoKeyPackages, "none"));
        }
        Ok(claimed)
    }

    pub(super) fn look_up(&self, server: &ServerName, sought: &Sought) -> Result<Listing, Refusal> {
        if let Some(refusal) = &self.refuse_look_ups {
            return Err(refusal.clone());
        }
        let mut found = self.lie_about_people.clone();
        let accounts = self.accounts.keys().filter(|a| a.server == *server);
        found.extend(accounts.filter(|a| sought.includes(&a.handle)).cloned());
        Ok(Listing {
            addresses: found,
            more: false,
        })
    }
}
