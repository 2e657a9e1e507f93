//! How a room may begin.

use super::*;

/// Goal: a room begins as it must: with its creator alone, who owns it and is certified now, in epoch 0, and
/// with this hub's key. Method: each other beginning.
#[test]
fn beginnings() {
    let (a, b) = (
        Organisation::new("a.example"),
        Organisation::new("b.example"),
    );
    let alice = Device::new(&a, "alice", 0x11, NOW_MS);
    let dave = Device::new(&b, "dave", 0x41, NOW_MS);
    let context = |chain: &[Vec<u8>]| {
        let mut made = context(chain, &alice.member, &[]);
        consented(&mut made, &[&a], ROOM_CONSENT_MS_MAX);
        made
    };
    let found = |context: &Context, now_ms: u64| {
        let group = create(&alice.client, ROOM, context);
        Observed::found(
            &group_info(&group),
            &anchors(&a, &b),
            &a.room_key(),
            &alice.member,
            now_ms,
        )
    };
    let good = context(&a.hub_chain());
    assert_eq!(found(&good, NOW_MS).unwrap().group_id(), ROOM.as_bytes());
    assert!(found(&good, NOW_MS + 40 * 86_400_000).is_err());
    let of_another = Observed::found(
        &group_info(&create(&alice.client, ROOM, &good)),
        &anchors(&a, &b),
        &a.room_key(),
        &dave.member,
        NOW_MS,
    );
    assert!(of_another.is_err());
    let mut later = create(&alice.client, ROOM, &good);
    later.commit_builder().build().unwrap();
    later.apply_pending_commit().unwrap();
    let later = group_info(&later);
    assert!(
        Observed::found(
            &later,
            &anchors(&a, &b),
            &a.room_key(),
            &alice.member,
            NOW_MS
        )
        .is_err()
    );
    let other_key = context(&a.hub(&[1; 32]));
    assert!(found(&other_key, NOW_MS).is_err());
    let mut other_hub = context(&b.hub_chain());
    other_hub.settings.hub = b.server.clone();
    assert!(found(&other_hub, NOW_MS).is_err());
    let mut no_policy = good.clone();
    no_policy.settings.consents.clear();
    assert!(found(&no_policy, NOW_MS).is_err());
    let mut no_owner = good;
    no_owner
        .settings
        .participants
        .values_mut()
        .for_each(|role| *role = Role::Member);
    assert!(found(&no_owner, NOW_MS).is_err());
    let unknown = Extension::new(ExtensionType::new(0xF0E2), vec![]);
    assert!(Context::read(&vec![unknown].into()).is_err());
}
