//! A commit whose update path has no nodes, and that is right in everything else: no MLS stack makes one, so it is made of
//! one with a path (RFC 9420, sections 7.6 and 12.4). Who holds no secrets can go on by it; no member can.

use mls_rs::MlsMessage;
use mls_rs::extension::built_in::{ExternalPubExt, RatchetTreeExt};
use mls_rs::external_client::ExternalClient;
use mls_rs::group::LeafIndex;
use mls_rs::mls_rs_codec::MlsEncode;
use mls_rs_core::extension::ExtensionType;
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use ring::digest;

use crate::failure::{Failure, Result};
use crate::group::Made;
use crate::mls::{PUBLIC_MESSAGE, ROOM_EXTENSION, vector};
use crate::organisation::DeviceIdentity;
use crate::usurper::{Anybody, SUITE};
use crate::wire::{Decoder, Encoder};

/// `mls10` with the wire format of a group info.
const GROUP_INFO: [u8; 4] = [0, 1, 0, 4];
/// The extensions of a group info.
const RATCHET_TREE: u16 = 2;
const EXTERNAL_PUB: u16 = 4;
/// `TreeHashInput` of a leaf, and that there is one.
const LEAF: u8 = 1;
const PRESENT: u8 = 1;

/// What a member's commit is put together from again.
struct Parts<'a> {
    /// `FramedContent` up to the leaf.
    head: &'a [u8],
    sender: u32,
    /// The leaf up to its parent hash.
    leaf: &'a [u8],
    confirmation_tag: &'a [u8],
    membership_tag: &'a [u8],
}

/// Takes the path's nodes out of a commit without proposals by a member of a room of two, which ends the epoch of the group
/// info `before`.
pub(crate) fn of(made: &Made, before: &[u8], by: &DeviceIdentity) -> Result<Made> {
    let parts =
        read(&made.commit).ok_or_else(|| broken("the commit is no member's with a path"))?;
    let message = MlsMessage::from_bytes(before).map_err(Failure::mls)?;
    let info = message
        .as_group_info()
        .ok_or_else(|| broken("it is no group info"))?;
    let context = encoded(info.group_context())?;
    let tree: Option<RatchetTreeExt> = info.extensions().get_as().map_err(Failure::mls)?;
    let tree = tree.ok_or_else(|| broken("the group info has no tree"))?;
    let leaf = leaf(&parts, &tree, info.group_context().group_id(), by)?;
    // No nodes.
    let content = vector(Encoder::new().fixed(parts.head).fixed(&leaf), &[]).finish();
    let signed = Encoder::new()
        .fixed(&PUBLIC_MESSAGE)
        .fixed(&content)
        .fixed(&context)
        .finish();
    let commit = Encoder::new().fixed(&PUBLIC_MESSAGE).fixed(&content);
    let commit = vector(commit, &sign(by, "FramedContentTBS", &signed));
    // The tags are for members alone.
    let commit = vector(commit, parts.confirmation_tag);
    let commit = vector(commit, parts.membership_tag).finish();
    Ok(Made {
        group_info: describe(before, &commit, &parts, &made.group_info, by)?,
        commit,
        welcome: None,
    })
}

fn broken(what: &str) -> Failure {
    Failure::Mls(what.to_owned())
}

fn encoded(value: &impl MlsEncode) -> Result<Vec<u8>> {
    value.mls_encode_to_vec().map_err(Failure::mls)
}

fn sign(by: &DeviceIdentity, label: &str, content: &[u8]) -> Vec<u8> {
    let label = format!("MLS 1.0 {label}");
    let signed = vector(vector(Encoder::new(), label.as_bytes()), content);
    by.key.sign(&signed.finish()).as_ref().to_vec()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// The new leaf, whose parent is the root that was there before.
fn leaf(
    parts: &Parts<'_>,
    tree: &RatchetTreeExt,
    group_id: &[u8],
    by: &DeviceIdentity,
) -> Result<Vec<u8>> {
    const ROOT: u32 = 1;
    let tree = &tree.tree_data;
    let other = 1_u32.saturating_sub(parts.sender);
    let index = LeafIndex::try_from(other).map_err(Failure::mls)?;
    let sibling = tree.get_leaf(index).map_err(Failure::mls)?;
    let sibling = sibling.ok_or_else(|| broken("nobody else is in the room"))?;
    let sibling = Encoder::new()
        .u8(LEAF)
        .u32(other)
        .u8(PRESENT)
        .fixed(&encoded(sibling)?)
        .finish();
    let root = tree.get_parent(ROOT).map_err(Failure::mls)?;
    let root = root.ok_or_else(|| broken("nobody has committed with a path"))?;
    let input = vector(Encoder::new(), root.public_key.as_ref());
    let input = vector(vector(input, &[]), &sha256(&sibling)).finish();
    let leaf = vector(Encoder::new().fixed(parts.leaf), &sha256(&input));
    // Without extensions.
    let leaf = vector(leaf, &[]).finish();
    let signed = vector(Encoder::new().fixed(&leaf), group_id).u32(parts.sender);
    let signature = sign(by, "LeafNodeTBS", &signed.finish());
    Ok(vector(Encoder::new().fixed(&leaf), &signature).finish())
}

/// The group info of where the commit leads, as who holds no secrets finds it.
fn describe(
    before: &[u8],
    commit: &[u8],
    parts: &Parts<'_>,
    honest: &[u8],
    by: &DeviceIdentity,
) -> Result<Vec<u8>> {
    let before = MlsMessage::from_bytes(before).map_err(Failure::mls)?;
    let mut group = ExternalClient::builder()
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![SUITE]))
        .identity_provider(Anybody)
        .extension_type(ExtensionType::new(ROOM_EXTENSION))
        .build()
        .observe_group(before, None, None)
        .map_err(Failure::mls)?;
    let commit = MlsMessage::from_bytes(commit).map_err(Failure::mls)?;
    group
        .process_incoming_message(commit)
        .map_err(Failure::mls)?;
    let honest = MlsMessage::from_bytes(honest).map_err(Failure::mls)?;
    let external: Option<ExternalPubExt> = match honest.as_group_info() {
        Some(info) => info.extensions().get_as().map_err(Failure::mls)?,
        None => None,
    };
    let external = external.ok_or_else(|| broken("the group info has no external key"))?;
    let external = vector(Encoder::new(), external.external_pub().as_ref()).finish();
    let extensions = vector(
        Encoder::new().u16(RATCHET_TREE),
        &group.export_tree().map_err(Failure::mls)?,
    );
    let extensions = vector(extensions.u16(EXTERNAL_PUB), &external).finish();
    let info = Encoder::new().fixed(&encoded(group.group_context())?);
    let info = vector(vector(info, &extensions), parts.confirmation_tag).u32(parts.sender);
    let info = info.finish();
    let signature = sign(by, "GroupInfoTBS", &info);
    Ok(vector(Encoder::new().fixed(&GROUP_INFO).fixed(&info), &signature).finish())
}

/// The parts of a member's commit with a path.
fn read(commit: &[u8]) -> Option<Parts<'_>> {
    const MEMBER: u8 = 1;
    const COMMIT: u8 = 3;
    const WITH_PATH: u8 = 1;
    let mut input = Decoder::new(commit);
    if input.take(PUBLIC_MESSAGE.len())? != PUBLIC_MESSAGE {
        return None;
    }
    let all = input;
    let (_group, _epoch) = (opaque(&mut input)?, input.u64()?);
    let is_members = input.u8()? == MEMBER;
    let sender = input.u32()?;
    let (_data, is_commit) = (opaque(&mut input)?, input.u8()? == COMMIT);
    let (_proposals, has_path) = (opaque(&mut input)?, input.u8()? == WITH_PATH);
    if !is_members || !is_commit || !has_path {
        return None;
    }
    let head = between(all, input)?;
    let start = input;
    // The two keys, the credential, the five lists of capabilities, and that it is of a commit.
    let (_encryption, _signature) = (opaque(&mut input)?, opaque(&mut input)?);
    let (_kind, _credential) = (input.u16()?, opaque(&mut input)?);
    for _ in 0..5 {
        opaque(&mut input)?;
    }
    input.u8()?;
    let leaf = between(start, input)?;
    // Parent hash, extensions, signature; the nodes; the signature.
    for _ in 0..5 {
        opaque(&mut input)?;
    }
    let (confirmation_tag, membership_tag) = (opaque(&mut input)?, opaque(&mut input)?);
    input.is_empty().then_some(Parts {
        head,
        sender,
        leaf,
        confirmation_tag,
        membership_tag,
    })
}

/// What was read from one place to the other.
fn between<'a>(from: Decoder<'a>, to: Decoder<'a>) -> Option<&'a [u8]> {
    let mut from = from;
    let read = from.rest().len().checked_sub(to.rest().len())?;
    from.take(read)
}

/// A variable-size vector (RFC 9420, section 2.1.2).
fn opaque<'a>(input: &mut Decoder<'a>) -> Option<&'a [u8]> {
    let first = input.u8()?;
    let low = usize::from(first & 0x3f);
    let length = match first >> 6 {
        0 => low,
        1 => low << 8 | usize::from(input.u8()?),
        2 => {
            let [b, c, d] = input.fixed()?;
            usize::try_from(u32::from_be_bytes([first & 0x3f, b, c, d])).ok()?
        }
        _ => return None,
    };
    input.take(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Change;
    use crate::group::tests::room;

    /// Goal: a commit without a path's nodes is one that MLS takes without secrets, with the group info that comes with it, and that no
    /// member takes; so what is wrong with it is the path alone. Method: one by each of two members; mls-rs observes, openmls is the
    /// other member.
    #[test]
    fn only_who_has_no_secrets_takes_it() {
        for second_commits in [false, true] {
            let (_, mut one, mut other) = room();
            if second_commits {
                std::mem::swap(&mut one, &mut other);
            }
            let before = one.group_info().unwrap();
            let made = one.commit(&Change::default()).unwrap();
            let short = of(&made, &before, &one.identity).unwrap();
            assert!(short.commit.len() < made.commit.len());
            let mut group = ExternalClient::builder()
                .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![SUITE]))
                .identity_provider(Anybody)
                .extension_type(ExtensionType::new(ROOM_EXTENSION))
                .build()
                .observe_group(MlsMessage::from_bytes(&before).unwrap(), None, None)
                .unwrap();
            for bytes in [&short.commit, &short.group_info] {
                let message = MlsMessage::from_bytes(bytes).unwrap();
                group.process_incoming_message(message).unwrap();
            }
            assert!(other.apply(&short.commit).is_err());
            other.apply(&made.commit).unwrap();
        }
    }
}
