//! What a room of a thousand devices weighs.

use federation_proto::ids::Member;
use federation_proto::limits::{
    GROUP_INFO_BYTES_MAX, HANDSHAKE_BYTES_MAX, ROOM_DOMAINS_MAX, WELCOME_BYTES_MAX,
};

use super::*;

const DEVICES: usize = 1_000;
/// Devices that one commit adds.
const AT_ONCE: usize = 111;
/// What a tree grows by for each device, at most, after it was added: a node above it is filled (its key, the hash of its parent, the
/// lengths of the two and of a list), the device stands in the lists of up to ten nodes that were filled before it came, and its own leaf
/// has a hash where it had its dates.
const GROWTH_BYTES: usize = (33 + 33 + 2) + 10 * 4 + 17;

// A room whose last welcome just fitted has room to grow, with a half more devices too.
const _: () = assert!(WELCOME_BYTES_MAX + DEVICES * 3 / 2 * GROWTH_BYTES <= GROUP_INFO_BYTES_MAX);

/// Bytes of the last group info, welcome and commit of a room.
struct Weighed {
    group_info: usize,
    welcome: usize,
    commit: usize,
}

/// A room of a thousand people of so many organisations, with consents of all. Names are as long as they may be in earnest: 60 bytes of
/// the organisations', 40 of the people's.
fn weigh(domains: usize) -> Weighed {
    let organisations: Vec<_> = (0..domains)
        .map(|number| {
            let label = format!("{:-<51}o", format!("organisation-{number}"));
            Organisation::new(&format!("{label}.example"))
        })
        .collect();
    assert_eq!(organisations[0].server.as_str().len(), 60);
    let devices: Vec<_> = (0..DEVICES)
        .map(|number| {
            let handle = format!("{:a<40}", format!("p{number}-"));
            let of = &organisations[number % domains];
            Device::named(of, &handle, u32::try_from(number).unwrap(), NOW_MS)
        })
        .collect();
    let (creator, others) = devices.split_first().unwrap();
    let member = |device: &Device| -> (Member, Role) { (device.member.clone(), Role::Member) };
    let members: Vec<_> = others.iter().map(member).collect();
    let mut context = context(&organisations[0].hub_chain(), &creator.member, &members);
    let every: Vec<_> = organisations.iter().collect();
    consented(&mut context, &every, ROOM_CONSENT_MS_MAX);
    let mut group = create(&creator.client, ROOM, &context);
    let mut weighed = None;
    for some in others.chunks(AT_ONCE) {
        let mut builder = group.commit_builder();
        for device in some {
            let key_package = key_package(&device.client, NOW_MS);
            builder = builder.add_member(key_package).unwrap();
        }
        let output = builder.build().unwrap();
        group.apply_pending_commit().unwrap();
        weighed = Some(Weighed {
            group_info: next_group_info(&output).len(),
            welcome: bytes(&output.welcome_messages[0]).len(),
            commit: bytes(&output.commit_message).len(),
        });
    }
    weighed.unwrap()
}

/// Goal: a room of a thousand devices fits: welcomes, group infos and commits are within their limits, however full its tree becomes, with
/// as many organisations as there may be. Method: make one, and weigh what the last commit brings.
#[test]
fn a_thousand_devices_fit() {
    let Weighed {
        group_info,
        welcome,
        commit,
    } = weigh(ROOM_DOMAINS_MAX);
    let full = DEVICES * GROWTH_BYTES;
    assert!(welcome + full <= WELCOME_BYTES_MAX, "{welcome}");
    assert!(group_info + full <= GROUP_INFO_BYTES_MAX, "{group_info}");
    assert!(commit <= HANDSHAKE_BYTES_MAX, "{commit}");
}
