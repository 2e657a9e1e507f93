//! The policy in the group: whose consents may be put in, by whom, and what happens once one has ended.

use federation_proto::room_consent::{RoomConsent, SignedRoomConsent, Span};

use super::*;

const HOUR_MS: u64 = 3_600_000;

/// B's next consent, changed.
fn of_b(scene: &Scene, change: impl FnOnce(&mut RoomConsent)) -> SignedRoomConsent {
    let mut consent = scene
        .b
        .consent(ROOM, &["a.example", "c.example"], NOW_MS + 1);
    change(&mut consent);
    scene.b.consents(consent)
}

fn of_a(scene: &Scene, change: impl FnOnce(&mut RoomConsent)) -> SignedRoomConsent {
    let mut consent = scene
        .a
        .consent(ROOM, &["b.example", "c.example"], NOW_MS + 1);
    change(&mut consent);
    scene.a.consents(consent)
}

fn put(context: &mut Context, consent: SignedRoomConsent) {
    let server = consent.claims().server.clone();
    context.settings.consents.insert(server, consent);
}

/// Lists somebody of c, with c's consent.
fn list_of_c(context: &mut Context, scene: &Scene, domains: &[&str]) {
    let of_c = Device::new(&scene.c, "erin", 0x51, NOW_MS);
    give(Role::Member)(context, &of_c);
    put(
        context,
        scene.c.consents(scene.c.consent(ROOM, domains, NOW_MS)),
    );
}

const ATTEMPTS: &[Attempt] = &[
    ("a newer consent of the own organisation", EVERYBODY, |s| {
        settings(s, |c, s| put(c, of_b(s, |_| {})))
    }),
    ("a stricter one", EVERYBODY, |s| {
        settings(s, |c, s| put(c, of_b(s, |c| c.ttl.max_seconds = 60)))
    }),
    ("a newer consent of another organisation", WHO_MAY, |s| {
        settings(s, |c, s| put(c, of_a(s, |_| {})))
    }),
    ("a newer consent and another name", WHO_MAY, |s| {
        settings(s, |c, s| {
            put(c, of_b(s, |_| {}));
            c.settings.name = "Lunch".to_owned();
        })
    }),
    ("an older consent", NOBODY, |s| {
        settings(s, |c, s| {
            put(
                c,
                of_b(s, |c| {
                    (c.serial, c.expires_ms) = (NOW_MS - 1, NOW_MS + HOUR_MS);
                }),
            )
        })
    }),
    ("another consent of the same time", NOBODY, |s| {
        settings(s, |c, s| {
            put(
                c,
                of_b(s, |c| {
                    (c.serial, c.expires_ms) = (NOW_MS, NOW_MS + HOUR_MS);
                }),
            )
        })
    }),
    ("a consent of later than now", NOBODY, |s| {
        settings(s, |c, s| {
            put(
                c,
                of_b(s, |c| {
                    c.serial = NOW_MS + HOUR_MS;
                    c.expires_ms = NOW_MS + 2 * HOUR_MS;
                }),
            )
        })
    }),
    ("a consent for another room", NOBODY, |s| {
        settings(s, |c, s| {
            put(c, of_b(s, |c| c.room = RoomId::from_bytes([8; 16])))
        })
    }),
    ("a consent that another has signed", NOBODY, |s| {
        settings(s, |c, s| {
            let claims = of_b(s, |_| {}).claims().clone();
            put(c, s.a.consents(claims))
        })
    }),
    ("a's consent, by b", NOBODY, |s| {
        settings(s, |c, s| {
            let claims = of_a(s, |c| c.ttl.max_seconds = 9).claims().clone();
            put(c, s.b.consents(claims))
        })
    }),
    ("a consent that does not name a", NOBODY, |s| {
        settings(s, |c, s| {
            put(c, of_b(s, |c| assert!(c.domains.remove(&s.a.server))))
        })
    }),
    ("times that a does not allow", NOBODY, |s| {
        settings(s, |c, s| {
            let days = |from: u32, to: u32| Span {
                min_seconds: from * 86_400,
                max_seconds: to * 86_400,
            };
            put(c, of_a(s, |c| c.ttl = days(1, 2)));
            put(c, of_b(s, |c| c.ttl = days(3, 4)));
        })
    }),
    ("no consents", NOBODY, |s| {
        settings(s, |c, _| c.settings.consents.clear())
    }),
    ("somebody of c, to whom all have consented", WHO_MAY, |s| {
        settings(s, |c, s| {
            put(c, of_a(s, |_| {}));
            put(c, of_b(s, |_| {}));
            list_of_c(c, s, &["a.example", "b.example"]);
        })
    }),
    ("somebody of c, to whom a has not consented", NOBODY, |s| {
        settings(s, |c, s| {
            put(c, of_b(s, |_| {}));
            list_of_c(c, s, &["a.example", "b.example"]);
        })
    }),
    ("somebody of c, which has not consented to a", NOBODY, |s| {
        settings(s, |c, s| {
            put(c, of_a(s, |_| {}));
            put(c, of_b(s, |_| {}));
            list_of_c(c, s, &["b.example"]);
        })
    }),
];

/// Goal: consents are renewed by people of their own organisation, and by owners and moderators; no role puts in what
/// is not the organisation's newer word for this room, nor brings together who has not consented to each other.
/// Method: the table above, each attempt by each role, judged by the hub and by an honest member.
#[test]
fn who_may_put_in_what() {
    for role in [Role::Owner, Role::Moderator, Role::Member] {
        for (what, may, attempt) in ATTEMPTS {
            let mut scene = Scene::new(role);
            let (commit, info) = attempt(&mut scene);
            let [hub, carol] = scene.judge(&commit, &info);
            let may = may.contains(&role);
            assert_eq!(hub.is_ok(), may, "{what} by {role}, the hub: {hub:?}");
            assert_eq!(carol.is_ok(), may, "{what} by {role}, Carol: {carol:?}");
        }
    }
}

/// What Mallory, an owner, tries once both consents have ended, and whether it passes.
type Late = (&'static str, bool, fn(&mut Scene) -> (MlsMessage, Bytes));

/// Newer consents of these, with settings changed besides.
fn renewed(scene: &mut Scene, of: &[char], change: fn(&mut Context, &Scene)) -> Proposal {
    let mut context = scene.context();
    let later = |c: &mut RoomConsent| c.expires_ms = NOW_MS + 9 * HOUR_MS;
    for organisation in of {
        let consent = match organisation {
            'a' => of_a(scene, later),
            _ => of_b(scene, later),
        };
        put(&mut context, consent);
    }
    change(&mut context, scene);
    Proposal::GroupContextExtensions(context.extensions().unwrap())
}

fn remove_and(scene: &mut Scene, index: u32, change: Proposal) -> (MlsMessage, Bytes) {
    let builder = scene.mallory.commit_builder().remove_member(index);
    let output = builder.unwrap().raw_proposal(change).build().unwrap();
    (output.commit_message.clone(), next_group_info(&output))
}

const LATE: &[Late] = &[
    ("nothing but a new leaf", false, |s| commit(s, vec![])),
    ("another name", false, |s| {
        settings(s, |c, _| c.settings.name = "Lunch".to_owned())
    }),
    ("a device of who takes part", false, |s| add(s, |s| &s.dave)),
    ("a removal", true, |s| remove(s, 2)),
    ("a removal with its account", true, |s| {
        let change = renewed(s, &[], |c, s| {
            let carol = (s.b.server.clone(), AccountId::from_bytes([0x30; 16]));
            c.settings.participants.remove(&carol).unwrap();
        });
        remove_and(s, 2, change)
    }),
    ("a removal and another name", false, |s| {
        let change = renewed(s, &[], |c, _| c.settings.name = "Lunch".to_owned());
        remove_and(s, 2, change)
    }),
    ("one of two newer consents", true, |s| {
        let change = renewed(s, &['b'], |_, _| {});
        commit(s, vec![change])
    }),
    ("one of two, and another name", false, |s| {
        let change = renewed(s, &['b'], |c, _| c.settings.name = "Lunch".to_owned());
        commit(s, vec![change])
    }),
    ("one of two, and a removal", true, |s| {
        let change = renewed(s, &['b'], |_, _| {});
        remove_and(s, 2, change)
    }),
    ("both, and another name", true, |s| {
        let change = renewed(s, &['a', 'b'], |c, _| c.settings.name = "Lunch".to_owned());
        commit(s, vec![change])
    }),
    ("a consent that has ended as well", false, |s| {
        settings(s, |c, s| {
            put(c, of_b(s, |c| c.expires_ms = NOW_MS + HOUR_MS))
        })
    }),
    ("from outside, back in", true, |s| {
        let info = MlsMessage::from_bytes(&group_info(&s.mallory)).unwrap();
        let device = Device::new(&s.b, "mallory", 0x21, NOW_MS);
        let builder = device.client.external_commit_builder().unwrap();
        let (group, commit) = builder.with_removal(1).build(info).unwrap();
        (commit, group_info(&group))
    }),
];

/// Goal: once consents have ended a room lets people go, takes newer consents, one organisation's after the
/// other's, and whoever fell out of step back in; and nothing else. Before the end all of it passes. Method: the table
/// above, an hour after the consents' end and before it, judged by the hub and by an honest member.
#[test]
fn once_a_consent_has_ended() {
    for (what, may, attempt) in LATE {
        let mut scene = Scene::consented(Role::Owner, HOUR_MS);
        let (commit, info) = attempt(&mut scene);
        let [hub, carol] = scene.judge_at(&commit, &info, NOW_MS + 2 * HOUR_MS);
        assert_eq!(hub.is_ok(), *may, "{what}, the hub: {hub:?}");
        assert_eq!(carol.is_ok(), *may, "{what}, Carol: {carol:?}");
        // What is refused is refused for that alone.
        let mut scene = Scene::consented(Role::Owner, HOUR_MS);
        let (commit, info) = attempt(&mut scene);
        let [hub, carol] = scene.judge_at(&commit, &info, NOW_MS);
        assert_eq!((hub, carol), (Ok(()), Ok(())), "{what}");
    }
}

/// The person of C whom `list_of_c` lists.
fn of_c(scene: &Scene) -> (federation_proto::ids::ServerName, AccountId) {
    (scene.c.server.clone(), AccountId::from_bytes([0x50; 16]))
}

fn without_c(context: &mut Context, scene: &Scene) {
    context.settings.participants.remove(&of_c(scene)).unwrap();
}

/// C's consent of this time, with its person.
fn with_c(context: &mut Context, scene: &Scene, serial: u64) {
    list_of_c(context, scene, &[]);
    let mut consent = scene.c.consent(ROOM, &["a.example", "b.example"], NOW_MS);
    (consent.serial, consent.expires_ms) = (serial, NOW_MS + HOUR_MS);
    put(context, scene.c.consents(consent));
}

impl Scene {
    /// What the hub and Carol say to these very settings, by Mallory.
    fn says(&mut self, change: impl FnOnce(&mut Context, &Self)) -> [Result<(), Error>; 2] {
        let (commit, info) = self.exactly(change);
        self.judge(&commit, &info)
    }

    /// The same, and the room goes on with them.
    fn go_on(&mut self, change: impl FnOnce(&mut Context, &Self)) {
        let (commit, info) = self.exactly(change);
        let judged = self.hub.judge(&[], &bytes(&commit), &info, NOW_MS);
        self.rules.set_time(NOW_MS);
        let now = MlsTime::from(NOW_MS / 1000);
        let carol = self.carol.process_incoming_message_with_time(commit, now);
        carol.unwrap();
        self.mallory.apply_pending_commit().unwrap();
        self.hub = judged.unwrap().next;
    }

    fn exactly(&mut self, change: impl FnOnce(&mut Context, &Self)) -> (MlsMessage, Bytes) {
        self.mallory.clear_pending_commit();
        let mut context = self.context();
        change(&mut context, self);
        let extensions = context.extensions().unwrap();
        commit(self, vec![Proposal::GroupContextExtensions(extensions)])
    }
}

/// Goal: a consent that was looser comes back by no detour: an organisation that was taken off the list and is listed again has
/// its last consent or a later one, and what the room keeps for that is neither forgotten, changed nor made up. Method: Mallory, an owner,
/// lists C, takes it off in every wrong way and in the right one, and lists it again with consents of three times.
#[test]
fn old_consents_stay_away() {
    let mut scene = Scene::new(Role::Owner);
    scene.go_on(|context, scene| {
        put(context, of_a(scene, |_| {}));
        put(context, of_b(scene, |_| {}));
        with_c(context, scene, NOW_MS - 10);
    });
    assert!(scene.context().settings.former.is_empty());
    let drop_c: [fn(&mut Context, u64); 4] = [
        |context, _| context.settings.former.clear(),
        |context, before| {
            let mut all = context.settings.former.values_mut();
            *all.next().unwrap() = before - 1;
        },
        |context, before| {
            let mut all = context.settings.former.values_mut();
            *all.next().unwrap() = before + 1;
        },
        |context, before| {
            let other = "d.example".parse().unwrap();
            context.settings.former.insert(other, before);
        },
    ];
    for wrong in drop_c {
        let [hub, carol] = scene.says(|context, scene| {
            without_c(context, scene);
            context.settings.drop_unlisted();
            wrong(context, NOW_MS - 10);
        });
        assert!(hub.is_err() && carol.is_err());
    }
    scene.go_on(|context, scene| {
        without_c(context, scene);
        context.settings.drop_unlisted();
    });
    let former = scene.context().settings.former.clone();
    let kept = (scene.c.server.clone(), NOW_MS - 10);
    assert_eq!(former, std::collections::BTreeMap::from([kept]));
    // It is kept whatever else is changed.
    let [hub, carol] = scene.says(|context, _| context.settings.former.clear());
    assert!(hub.is_err() && carol.is_err());
    scene.go_on(|context, _| context.settings.name = "Lunch".to_owned());
    let again = |serial| {
        move |context: &mut Context, scene: &Scene| {
            with_c(context, scene, serial);
            context.settings.drop_unlisted();
        }
    };
    let [hub, carol] = scene.says(again(NOW_MS - 11));
    assert!(hub.is_err() && carol.is_err());
    // The hub alone: Carol goes on with what she takes.
    for serial in [NOW_MS - 10, NOW_MS - 9] {
        let (commit, info) = scene.exactly(again(serial));
        let judged = scene.hub.judge(&[], &bytes(&commit), &info, NOW_MS);
        judged.unwrap();
    }
    scene.go_on(again(NOW_MS - 9));
    assert!(scene.context().settings.former.is_empty());
}

/// Goal: a room begins with consents that hold, of everybody whom it lists. Method: a good beginning, and each with
/// one thing wrong.
#[test]
fn rooms_begin_with_consents() {
    let found = |change: fn(&mut Context, &Scene)| {
        let scene = Scene::new(Role::Member);
        let mut context = scene.context();
        change(&mut context, &scene);
        let group = create(&scene.alice.client, ROOM, &context);
        let anchors = anchors_of(&[&scene.a, &scene.b, &scene.c]);
        let (key, creator) = (scene.a.room_key(), &scene.alice.member);
        Observed::found(&group_info(&group), &anchors, &key, creator, NOW_MS).map(|_| ())
    };
    assert_eq!(found(|_, _| {}), Ok(()));
    assert!(found(|c, s| put(c, of_b(s, |c| c.room = RoomId::from_bytes([8; 16])))).is_err());
    assert!(found(|c, s| put(c, of_b(s, |c| assert!(c.domains.remove(&s.a.server))))).is_err());
    assert!(
        found(|c, s| {
            let ended = of_b(s, |c| {
                (c.serial, c.expires_ms) = (NOW_MS - 2, NOW_MS);
            });
            put(c, ended);
        })
        .is_err()
    );
}
