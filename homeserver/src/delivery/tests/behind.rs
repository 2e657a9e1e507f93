//! Inboxes that are full, or said to be; devices that are behind; epochs that have ended.

use super::*;

/// Goal: a count that has come to be wrong refuses nothing for long: it is taken again before something is refused, though
/// not each time. By a count that an acknowledgement has passed by while it was taken: as if all of it were still there.
#[tokio::test]
async fn wrong_counts_are_put_right() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice, bob]).await;
    let mailboxes = &world.node.mailboxes;
    let full = Fill::full_of(Class::Message);
    mailboxes.set_fill(bob.device, full, world.node.clock.now_ms());
    world.clock.advance_ms(INBOX_RECOUNT_MS - 1);
    let outcome = world.submit(alice, 2, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::Quota));
    world.clock.advance_ms(1);
    for (counter, text) in [(3, b"y"), (4, b"z")] {
        let outcome = world.submit(alice, counter, message(1, HOUR, text)).await;
        assert_eq!(code(&outcome), None);
    }
    let fill = mailboxes.fill(bob.device).unwrap();
    assert_eq!(fill.of(Class::Message, None).0.items, 2);
}

/// Goal: what is put into an inbox beside messages and handshakes is let in by all that it takes there, not by a part of
/// that. By an inbox with a few bytes left, and an answer whose text is none.
#[tokio::test]
async fn items_are_let_in_by_their_whole_length() {
    let world = World::new();
    let bob = device(&world.node, "bob").await;
    let body = || InboxBody::Directory {
        request: RequestId::from_bytes([1; 16]),
        result: Err(Refusal::new(RefusalCode::Unavailable, "")),
    };
    let batch = Batch::open(&world.node).await.unwrap();
    let bytes = inbox::appended_bytes(&batch, &body()).unwrap();
    let most = world.node.config.limits.inbox_bytes_max * INBOX_HANDSHAKE_FACTOR;
    let most = usize::try_from(most).unwrap();
    let now_ms = world.node.clock.now_ms();
    for (left, fits) in [(bytes - 1, false), (bytes, true)] {
        let mut fill = Fill::default();
        fill.add(&Item::new(Class::Handshake, None, most - left));
        world.node.mailboxes.set_fill(bob.device, fill, now_ms);
        let mut batch = Batch::open(&world.node).await.unwrap();
        let taken = append_if_room(&mut batch, bob.device, body()).await;
        assert_eq!(taken.is_ok(), fits, "{left} of {bytes} bytes left");
    }
}

/// Goal: a device whose inbox has no room for what is ordered stops nobody: the room goes on, others commit, and it is
/// told once, and again only after it has asked for the way back; it can be removed, and can't commit what it could not
/// hear of. Method: a full inbox, with Bob's device behind it.
#[tokio::test]
async fn a_full_inbox_stops_no_room() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice, bob]).await;
    let full = || Fill::full_of(Class::Handshake);
    let told = async || {
        let (bodies, _) = world.inbox(bob).await;
        let epoch = |body: &DeliveryBody| match body {
            DeliveryBody::OutOfStep { room, epoch } if *room == ROOM => Some(*epoch),
            _ => None,
        };
        let commits = bodies
            .iter()
            .filter(|b| matches!(b, DeliveryBody::Commit { .. }));
        (
            commits.count(),
            bodies.iter().filter_map(epoch).collect::<Vec<_>>(),
        )
    };
    world
        .node
        .mailboxes
        .set_fill(bob.device, full(), world.node.clock.now_ms());
    for (counter, epoch) in [(2, 1), (3, 2)] {
        let outcome = world
            .submit(alice, counter, commit(epoch, vec![], vec![]))
            .await;
        assert_eq!(code(&outcome), None);
    }
    assert_eq!(told().await, (0, vec![2]));
    let outcome = world.submit(bob, 1, commit(3, vec![], vec![])).await;
    assert_eq!(code(&outcome), Some(RefusalCode::Quota));
    let (bodies, _) = world.inbox(alice).await;
    assert_eq!(bodies.len(), 2, "both of her own commits");

    // He has read, and asks.
    world
        .node
        .mailboxes
        .set_fill(bob.device, Fill::default(), world.node.clock.now_ms());
    let request = RequestId::from_bytes([1; 16]);
    let ask = SubmissionBody::RequestGroupInfo {
        request,
        room: ROOM,
    };
    assert_eq!(code(&world.submit(bob, 2, ask).await), None);
    let (bodies, _) = world.inbox(bob).await;
    let answered = bodies.iter().any(
        |body| matches!(body, DeliveryBody::GroupInfo { result: Ok(info), .. } if info.epoch == 3),
    );
    assert!(answered, "{bodies:?}");
    world
        .node
        .mailboxes
        .set_fill(bob.device, full(), world.node.clock.now_ms());
    for (counter, epoch) in [(4, 3), (5, 4)] {
        let outcome = world
            .submit(alice, counter, commit(epoch, vec![], vec![]))
            .await;
        assert_eq!(code(&outcome), None);
    }
    assert_eq!(told().await, (0, vec![2, 4]));
    let removed = commit(5, vec![], vec![member(&world.node, bob)]);
    assert_eq!(code(&world.submit(alice, 6, removed).await), None);
    world
        .node
        .mailboxes
        .set_fill(bob.device, Fill::default(), world.node.clock.now_ms());
    let ask = SubmissionBody::RequestGroupInfo {
        request,
        room: ROOM,
    };
    let outcome = world.submit(bob, 3, ask).await;
    assert_eq!(code(&outcome), Some(RefusalCode::UnknownRoom));
}

/// Goal: a device is added only when it can be told: nothing else leads it into the room. Method: one with a full inbox,
/// and the same when that is read.
#[tokio::test]
async fn who_is_added_has_to_hear_of_it() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice]).await;
    let full = Fill::full_of(Class::Handshake);
    world
        .node
        .mailboxes
        .set_fill(bob.device, full, world.node.clock.now_ms());
    let add = || commit(1, vec![member(&world.node, bob)], vec![]);
    let outcome = world.submit(alice, 2, add()).await;
    assert_eq!(code(&outcome), Some(RefusalCode::Quota));
    world
        .node
        .mailboxes
        .set_fill(bob.device, Fill::default(), world.node.clock.now_ms());
    assert_eq!(code(&world.submit(alice, 3, add()).await), None);
}

/// Goal: a message from an epoch that ended six days ago is taken, and a moment later comes back to be encrypted again:
/// devices keep what reads it for seven; an epoch that goes on is never too old. Method: two epochs and a clock.
#[tokio::test]
async fn epochs_end_by_the_clock() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice, bob]).await;
    let outcome = world.submit(alice, 2, commit(1, vec![], vec![])).await;
    assert_eq!(code(&outcome), None);
    world.clock.advance_ms(crate::rooms::ENDED_EPOCH_MS_MAX);
    let outcome = world.submit(bob, 1, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), None);
    world.clock.advance_ms(1);
    let outcome = world.submit(bob, 2, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::EpochTooOld));
    world.clock.advance_ms(crate::rooms::ENDED_EPOCH_MS_MAX);
    let outcome = world.submit(bob, 3, message(2, HOUR, b"x")).await;
    assert_eq!(code(&outcome), None);
}
