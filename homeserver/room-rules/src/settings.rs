//! What every room's MLS group context carries: the hub, the only external sender, and the participants with
//! their roles.
//!
//! A group context has exactly three extensions, in this order: the capabilities that every member must have,
//! the external senders (one: the hub), and the room's own. The room's own lists accounts, not devices: so a
//! person's new device can be added by anybody, and a new person only by whose role may.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use federation_proto::codec::{DecodeError, Reader, Wire, Writer};
use federation_proto::ids::{AccountId, Member, ServerName};
use federation_proto::limits::{ROOM_DOMAINS_MAX, ROOM_EPOCHS_MAX, SERVER_NAME_BYTES_MAX};
use federation_proto::room_consent::SignedRoomConsent;
use mls_rs::extension::ExtensionType;
use mls_rs::extension::built_in::{ExternalSendersExt, RequiredCapabilitiesExt};
use mls_rs::identity::SigningIdentity;
use mls_rs::{Extension, ExtensionList};
use mls_rs_core::identity::CredentialType;

use crate::certificate;
use crate::consents::Consents;
use crate::continuation::Continuation;
use crate::error::Error;
use crate::identity::first;

/// The room's own extension, of the range for private use.
pub const ROOM_EXTENSION: ExtensionType = ExtensionType::new(0xF0E1);
/// Most accounts in a room.
pub const PARTICIPANTS_MAX: usize = 2_000;
/// Most organisations in a room.
pub const DOMAINS_MAX: usize = ROOM_DOMAINS_MAX;
/// Most organisations that a room has had in its life, those that are there included: of each the last consent's serial is
/// kept. Who wants to have more begins another room.
pub const ORGANISATIONS_EVER_MAX: usize = 256;
/// Most bytes of a room's name.
pub const ROOM_NAME_BYTES_MAX: usize = 128;
/// Epochs that a room keeps when nobody has said otherwise, and at most.
pub const RETAINED_EPOCHS: u16 = ROOM_EPOCHS_MAX;

const VERSION: u8 = 1;
/// The room has no policy of its own.
const NO_POLICY: u8 = 0;
/// Its policy is what all the consents that follow allow.
const CONSENTS: u8 = 1;
/// The same, and organisations that are gone had given theirs.
const CONSENTS_AND_FORMER: u8 = 2;
/// Bytes of a participant: the account and the role.
const PARTICIPANT_BYTES: usize = 17;

const _: () = assert!(DOMAINS_MAX <= PARTICIPANTS_MAX && DOMAINS_MAX <= ORGANISATIONS_EVER_MAX);

/// What an account may do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, and to give every role.
    Owner,
    /// To add and remove members and moderators, and to make one of the other.
    Moderator,
    /// To write, and to remove devices of its own account.
    Member,
}

impl Role {
    /// How much it may: a role acts on those that are not above it.
    const fn rank(self) -> u8 {
        match self {
            Self::Owner => 3,
            Self::Moderator => 2,
            Self::Member => 1,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Owner => 1,
            Self::Moderator => 2,
            Self::Member => 3,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Owner),
            2 => Some(Self::Moderator),
            3 => Some(Self::Member),
            _ => None,
        }
    }

    /// The role's name, as people type it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Moderator => "moderator",
            Self::Member => "member",
        }
    }

    /// Whether it may change who takes part at all.
    #[must_use]
    pub const fn may_change_participants(self) -> bool {
        self.rank() >= Self::Moderator.rank()
    }

    /// Whether it may do something to an account of `other`, or give that role.
    #[must_use]
    pub const fn may_act_on(self, other: Self) -> bool {
        self.may_change_participants() && self.rank() >= other.rank()
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Owner, Self::Moderator, Self::Member]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| Error::settings("a role is owner, moderator or member"))
    }
}

/// An account, as a room names it.
pub type Account = (ServerName, AccountId);

/// The room's own extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSettings {
    /// The homeserver that orders the room.
    pub hub: ServerName,
    /// Epochs that the room keeps: messages from older ones are returned to their senders.
    pub retained_epochs: u16,
    /// What its members call it; empty: it has no name.
    pub name: String,
    /// Who takes part.
    pub participants: BTreeMap<Account, Role>,
    /// What the organisations of those let it do: of each its consent, or none of any.
    pub consents: Consents,
    /// The serials of the last consents of organisations that have taken part and don't any more: should they come back, no
    /// older one counts.
    pub former: BTreeMap<ServerName, u64>,
    /// The room that it continues; from its beginning on.
    pub continues: Option<Continuation>,
}

impl RoomSettings {
    /// A new room's, with its creator as the only owner.
    #[must_use]
    pub fn new(hub: ServerName, creator: &Member) -> Self {
        Self {
            hub,
            retained_epochs: RETAINED_EPOCHS,
            name: String::new(),
            participants: BTreeMap::from([(account(creator), Role::Owner)]),
            consents: Consents::new(),
            former: BTreeMap::new(),
            continues: None,
        }
    }

    /// The organisations that take part.
    #[must_use]
    pub fn domains(&self) -> BTreeSet<&ServerName> {
        self.participants.keys().map(|(server, _)| server).collect()
    }

    /// Forgets the consents of organisations of which nobody takes part any more, but for their serials; and the serials of
    /// those that have come back.
    pub fn drop_unlisted(&mut self) {
        let domains: BTreeSet<ServerName> = self.domains().into_iter().cloned().collect();
        let before = std::mem::take(&mut self.consents);
        let (listed, gone) = before
            .into_iter()
            .partition(|(server, _)| domains.contains(server));
        self.former = former_serials(&self.former, &gone, &listed);
        self.consents = listed;
    }

    /// The role of a device's account; `None` when it takes no part.
    #[must_use]
    pub fn role(&self, member: &Member) -> Option<Role> {
        self.participants.get(&account(member)).copied()
    }

    /// Whether anybody owns the room.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.participants.values().any(|role| *role == Role::Owner)
    }

    /// Whether somebody of role `by` may make these settings of the present ones.
    ///
    /// # Errors
    /// When he may not; the reason is for people.
    pub fn check_change(&self, by: Role, next: &Self) -> Result<(), Error> {
        if !by.may_change_participants() {
            return Err(Error::refused(
                "only owners and moderators change who takes part",
            ));
        }
        if self.hub != next.hub {
            return Err(Error::refused("a room keeps its hub"));
        }
        if self.continues != next.continues {
            return Err(Error::refused("a room keeps what it says to continue"));
        }
        if self.retained_epochs != next.retained_epochs && by != Role::Owner {
            return Err(Error::refused("only owners change the room's settings"));
        }
        let accounts = self.participants.keys().chain(next.participants.keys());
        for account in accounts {
            let (old, new) = (
                self.participants.get(account),
                next.participants.get(account),
            );
            let may = |role: Option<&Role>| role.is_none_or(|role| by.may_act_on(*role));
            if old != new && !(may(old) && may(new)) {
                return Err(Error::refused(
                    "nobody changes the role of who is above him, nor gives a higher role than his own",
                ));
            }
        }
        if !next.has_owner() {
            return Err(Error::refused(
                "a room has an owner: make somebody else owner first",
            ));
        }
        Ok(())
    }

    fn by_domain(&self) -> BTreeMap<&ServerName, Vec<(AccountId, Role)>> {
        let mut domains: BTreeMap<&ServerName, Vec<_>> = BTreeMap::new();
        for ((server, account), role) in &self.participants {
            domains.entry(server).or_default().push((*account, *role));
        }
        domains
    }
}

/// What is kept of organisations that are gone once the consents `before` have given way to `next`.
pub(crate) fn former_serials(
    kept: &BTreeMap<ServerName, u64>,
    before: &Consents,
    next: &Consents,
) -> BTreeMap<ServerName, u64> {
    let mut former = kept.clone();
    let serials = before
        .iter()
        .map(|(server, consent)| (server.clone(), consent.claims().serial));
    former.extend(serials);
    former.retain(|server, _| !next.contains_key(server));
    former
}

/// A device's account.
#[must_use]
pub fn account(member: &Member) -> Account {
    (member.server.clone(), member.account)
}

/// Who acts as an owner while the room has none: of the accounts that have a device in the room (`present`) the
/// first moderator in the list, else the first member.
#[must_use]
pub fn successor<'a>(
    settings: &'a RoomSettings,
    present: &BTreeSet<Account>,
) -> Option<&'a Account> {
    if settings.has_owner() {
        return None;
    }
    let first = |role: Role| {
        let mut listed = settings.participants.iter();
        listed
            .find(|(account, has)| **has == role && present.contains(*account))
            .map(|(account, _)| account)
    };
    first(Role::Moderator).or_else(|| first(Role::Member))
}

/// Whether this may be a room's name: none at all, or a short text on one line, without spaces around it.
///
/// # Errors
/// When it may not; the reason is for people.
pub fn check_name(name: &str) -> Result<(), Error> {
    if name.len() > ROOM_NAME_BYTES_MAX {
        return Err(Error::settings(format!(
            "a room's name has at most {ROOM_NAME_BYTES_MAX} bytes: take a shorter one"
        )));
    }
    if name.trim() != name || name.chars().any(char::is_control) {
        return Err(Error::settings(
            "a room's name is one line without spaces around it",
        ));
    }
    Ok(())
}

impl Wire for RoomSettings {
    const BYTES_MAX: usize = 64
        + SERVER_NAME_BYTES_MAX
        + ROOM_NAME_BYTES_MAX
        + DOMAINS_MAX * (SERVER_NAME_BYTES_MAX + 8)
        + PARTICIPANTS_MAX * PARTICIPANT_BYTES
        + DOMAINS_MAX * SignedRoomConsent::BYTES_MAX
        + ORGANISATIONS_EVER_MAX * (SERVER_NAME_BYTES_MAX + 9)
        + Continuation::BYTES_MAX;
    const NAME: &'static str = "room extension";

    fn write(&self, writer: &mut Writer) {
        writer.u8(VERSION);
        writer.server_name(&self.hub);
        writer.u16(self.retained_epochs);
        if !(1..=RETAINED_EPOCHS).contains(&self.retained_epochs) {
            writer.fail("retained epochs", usize::from(RETAINED_EPOCHS));
        }
        if check_name(&self.name).is_err() {
            writer.fail("name", ROOM_NAME_BYTES_MAX);
        }
        writer.opaque8("name", ROOM_NAME_BYTES_MAX, self.name.as_bytes());
        let count = self.participants.len();
        if count == 0 || count > PARTICIPANTS_MAX {
            writer.fail("participants", PARTICIPANTS_MAX);
        }
        let domains: Vec<_> = self.by_domain().into_iter().collect();
        writer.list(
            "domains",
            DOMAINS_MAX,
            &domains,
            |writer, (server, accounts)| {
                writer.server_name(server);
                let max = PARTICIPANTS_MAX;
                writer.list("participants", max, accounts, |writer, (account, role)| {
                    writer.fixed(account.as_bytes());
                    writer.u8(role.number());
                });
            },
        );
        self.write_policy(writer);
        writer.optional(self.continues.as_ref(), |writer, former| {
            former.write(writer)
        });
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = reader.u8("version")?;
        if version != VERSION {
            return Err(DecodeError::UnsupportedVersion(version.into()));
        }
        let hub = reader.server_name("hub")?;
        let retained_epochs = reader.u16("retained epochs")?;
        if !(1..=RETAINED_EPOCHS).contains(&retained_epochs) {
            return Err(DecodeError::Invalid("retained epochs"));
        }
        let name = reader.opaque8("name", ROOM_NAME_BYTES_MAX)?;
        let name = std::str::from_utf8(&name)
            .ok()
            .filter(|name| check_name(name).is_ok())
            .ok_or(DecodeError::Invalid("name"))?
            .to_owned();
        let domains = reader.list("domains", DOMAINS_MAX, |reader| {
            let server = reader.server_name("server")?;
            let accounts = reader.list("participants", PARTICIPANTS_MAX, |reader| {
                let account = AccountId::from_bytes(reader.fixed("account")?);
                let number = reader.u8("role")?;
                let role = Role::from_number(number).ok_or(DecodeError::UnknownValue {
                    what: "role",
                    value: number.into(),
                })?;
                Ok((account, role))
            })?;
            if accounts.is_empty() {
                return Err(DecodeError::Empty("participants"));
            }
            Ok((server, accounts))
        })?;
        if !domains.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(DecodeError::NotAscending("domains"));
        }
        let (consents, former) = read_policy(reader)?;
        let continues = reader.optional("continues", Continuation::read)?;
        let mut participants = BTreeMap::new();
        for (server, accounts) in domains {
            if !accounts.is_sorted_by(|a, b| a.0 < b.0) {
                return Err(DecodeError::NotAscending("participants"));
            }
            let accounts = accounts.into_iter();
            participants.extend(accounts.map(|(account, role)| ((server.clone(), account), role)));
        }
        if participants.is_empty() {
            return Err(DecodeError::Empty("participants"));
        }
        if participants.len() > PARTICIPANTS_MAX {
            return Err(DecodeError::TooLong {
                what: "participants",
                max: PARTICIPANTS_MAX,
            });
        }
        let read = Self {
            hub,
            retained_epochs,
            name,
            participants,
            consents,
            former,
            continues,
        };
        if !read.consents.is_empty() && !fits(&read.consents, &read.domains()) {
            return Err(DecodeError::Invalid("consents"));
        }
        Ok(read)
    }
}

impl RoomSettings {
    fn write_policy(&self, writer: &mut Writer) {
        let consents: Vec<_> = self.consents.values().collect();
        let former: Vec<_> = self.former.iter().collect();
        if !is_apart(&self.former, &self.consents) {
            writer.fail("former consents", ORGANISATIONS_EVER_MAX);
        }
        if consents.is_empty() {
            writer.u8(NO_POLICY);
            return;
        }
        if !fits(&self.consents, &self.domains()) {
            writer.fail("consents", DOMAINS_MAX);
        }
        let policy = match former.is_empty() {
            true => CONSENTS,
            false => CONSENTS_AND_FORMER,
        };
        writer.u8(policy);
        writer.list("consents", DOMAINS_MAX, &consents, |writer, consent| {
            consent.write(writer);
        });
        if former.is_empty() {
            return;
        }
        let max = ORGANISATIONS_EVER_MAX;
        writer.list(
            "former consents",
            max,
            &former,
            |writer, (server, serial)| {
                writer.server_name(server);
                writer.u64(**serial);
            },
        );
    }
}

fn read_policy(reader: &mut Reader) -> Result<(Consents, BTreeMap<ServerName, u64>), DecodeError> {
    let policy = reader.u8("policy")?;
    let (consents, former) = match policy {
        NO_POLICY => return Ok((Consents::new(), BTreeMap::new())),
        CONSENTS | CONSENTS_AND_FORMER => {
            let consents = reader.list("consents", DOMAINS_MAX, SignedRoomConsent::read)?;
            let former = match policy {
                CONSENTS => Vec::new(),
                _ => reader.list("former consents", ORGANISATIONS_EVER_MAX, |reader| {
                    Ok((reader.server_name("server")?, reader.u64("serial")?))
                })?,
            };
            (consents, former)
        }
        policy => return Err(DecodeError::UnsupportedVersion(policy.into())),
    };
    if consents.is_empty() {
        return Err(DecodeError::Empty("consents"));
    }
    if policy == CONSENTS_AND_FORMER && former.is_empty() {
        return Err(DecodeError::Empty("former consents"));
    }
    if !consents.is_sorted_by(|a, b| a.claims().server < b.claims().server) {
        return Err(DecodeError::NotAscending("consents"));
    }
    if !former.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(DecodeError::NotAscending("former consents"));
    }
    let consents: Consents = consents
        .into_iter()
        .map(|consent| (consent.claims().server.clone(), consent))
        .collect();
    let former = former.into_iter().collect();
    if !is_apart(&former, &consents) {
        return Err(DecodeError::Invalid("former consents"));
    }
    Ok((consents, former))
}

/// Whether no organisation that is gone is there, and a room without a policy has never had one.
fn is_apart(former: &BTreeMap<ServerName, u64>, consents: &Consents) -> bool {
    let mut gone = former.keys();
    former.is_empty() || (!consents.is_empty() && gone.all(|server| !consents.contains_key(server)))
}

/// Whether there is a consent of each of these organisations, and of no other.
fn fits(consents: &Consents, domains: &BTreeSet<&ServerName>) -> bool {
    consents.len() == domains.len()
        && consents
            .iter()
            .all(|(server, consent)| domains.contains(server) && consent.claims().server == *server)
}

/// Everything that a group context's extensions say.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The room's own.
    pub settings: RoomSettings,
    /// The only external sender: the room's hub, certified by its own organisation.
    pub hub: SigningIdentity,
}

impl Context {
    /// Reads a group context's extensions. Whoever has certified the hub is not judged here.
    ///
    /// # Errors
    /// When they are anything but a room's.
    pub fn read(extensions: &ExtensionList) -> Result<Self, Error> {
        let wrong = |what: &str| Error::settings(what);
        let [required, senders, room] = extensions.as_slice() else {
            return Err(wrong("there must be exactly three extensions"));
        };
        if *required != required_capabilities()? {
            return Err(wrong("the required capabilities are others"));
        }
        let room = (room.extension_type == ROOM_EXTENSION)
            .then(|| Bytes::copy_from_slice(&room.extension_data))
            .ok_or_else(|| wrong("the room's own extension is missing"))?;
        let settings = RoomSettings::from_bytes(room).map_err(|error| wrong(&error.to_string()))?;
        let external: ExternalSendersExt = extensions
            .get_as()
            .ok()
            .flatten()
            .filter(|_| senders.extension_type == ExtensionType::EXTERNAL_SENDERS)
            .ok_or_else(|| wrong("the external senders are missing"))?;
        let [hub] = external.allowed_senders() else {
            return Err(wrong("there must be exactly one external sender"));
        };
        let certified = certificate::read_hub(first(hub)?)?;
        if certified.server != settings.hub || certified.public_key != hub.signature_key.as_ref() {
            return Err(wrong("the external sender is not the hub"));
        }
        let context = Self {
            settings,
            hub: hub.clone(),
        };
        // One encoding: what reads the same is the same.
        if context.extensions()?.as_slice() != extensions.as_slice() {
            return Err(wrong("they are not encoded as they must be"));
        }
        Ok(context)
    }

    /// As a group context's extensions.
    ///
    /// # Errors
    /// When the settings break a limit.
    pub fn extensions(&self) -> Result<ExtensionList, Error> {
        let room = self
            .settings
            .to_bytes()
            .map_err(|error| Error::settings(error.to_string()))?;
        let mut extensions = ExtensionList::new();
        extensions.set(required_capabilities()?);
        extensions
            .set_from(ExternalSendersExt::new(vec![self.hub.clone()]))
            .map_err(|error| Error::settings(error.to_string()))?;
        extensions.set(Extension::new(ROOM_EXTENSION, room.to_vec()));
        Ok(extensions)
    }
}

/// What every member's client must understand.
fn required_capabilities() -> Result<Extension, Error> {
    use mls_rs_core::extension::MlsExtension as _;
    RequiredCapabilitiesExt::new(vec![ROOM_EXTENSION], Vec::new(), vec![CredentialType::X509])
        .into_extension()
        .map_err(|error| Error::settings(error.to_string()))
}

#[cfg(test)]
mod tests;
