//! What a hub pays for a commit in a room of so many devices, in milliseconds: reading the room from its group info,
//! judging a commit with the room in memory, and how large the group info is.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a measurement stops at the first surprise, looks at the clock and prints"
)]

use std::time::Instant;

use federation_proto::ids::RoomId;
use room_rules::Observed;
use room_rules::certificate::AnchorSet;
use room_rules::settings::Role;
use room_rules::testing::Organisation;
use room_rules::testing::mls::{
    Device, bytes, context, create, group_info, key_package, next_group_info,
};

const NOW_MS: u64 = 1_790_000_000_000;
/// Devices that one commit adds.
const AT_ONCE: usize = 100;

fn main() {
    println!("| devices | read from the group info | judge a commit | group info |");
    println!("|---|---|---|---|");
    for devices in [10, 100, 1_000] {
        measure(devices);
    }
}

fn measure(devices: usize) {
    let a = Organisation::new("a.example");
    let anchors = AnchorSet::own(a.server.clone(), a.root.clone());
    let others: Vec<Device> = (1..devices)
        .map(|number| Device::numbered(&a, u32::try_from(number).unwrap(), NOW_MS))
        .collect();
    let alice = Device::numbered(&a, 0, NOW_MS);
    let members: Vec<_> = others
        .iter()
        .map(|device| (device.member.clone(), Role::Member))
        .collect();
    let context = context(&a.hub_chain(), &alice.member, &members);
    let mut group = create(&alice.client, RoomId::from_bytes([7; 16]), &context);
    for some in others.chunks(AT_ONCE) {
        let mut builder = group.commit_builder();
        for device in some {
            builder = builder
                .add_member(key_package(&device.client, NOW_MS))
                .unwrap();
        }
        builder.build().unwrap();
        group.apply_pending_commit().unwrap();
    }
    let kept = group_info(&group);
    let output = group.commit_builder().build().unwrap();
    let (commit, next) = (bytes(&output.commit_message), next_group_info(&output));
    let start = Instant::now();
    let room = Observed::open(&kept, anchors, None).unwrap();
    let read = start.elapsed();
    let start = Instant::now();
    room.judge(&[], &commit, &next, NOW_MS).unwrap();
    let judged = start.elapsed();
    println!(
        "| {devices} | {} ms | {} ms | {} KB |",
        read.as_millis(),
        judged.as_millis(),
        kept.len() / 1000
    );
}
