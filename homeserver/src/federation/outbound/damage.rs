//! What in the store does not decode: the rounds pass over it, so that one damaged record keeps nothing else from
//! being done. It is logged each time and audited once; `homeserver store check` finds all of it.

use std::collections::BTreeSet;

use crate::audit::{self, Actor, Event};
use crate::node::Node;
use crate::store::{Part, StoreError};

/// What was passed over since this process started.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// What was audited: an act of a round, and whom it concerned. There are as many as acts and peers.
    told: BTreeSet<(&'static str, String)>,
}

impl Damage {
    /// What `done` has come to; `None`: it met a record that does not decode, which is passed over. `act` and
    /// `concerned` say in the log what was not done, and for whom. Every other failure is the caller's.
    pub(super) async fn pass_over<T>(
        &mut self,
        node: &Node,
        (act, concerned): (&'static str, &str),
        done: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let error = match done {
            Ok(done) => return Ok(Some(done)),
            Err(error @ StoreError::Corrupt { .. }) => error,
            Err(error) => return Err(error),
        };
        tracing::error!(act, concerned, %error, "passed over");
        if self.told.insert((act, concerned.to_owned())) {
            let mut part = Part::default();
            let event = Event {
                at_ms: node.clock.now_ms(),
                actor: Actor::System,
                action: "store.damaged",
                subject: concerned.to_owned(),
                detail: format!("{act}: {error}"),
            };
            audit::record(&mut part, &event);
            node.store.commit(part).await?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing;

    /// Goal: a record that does not decode is passed over and audited once for whomever it concerns; any other failure
    /// is the caller's. Method: each, twice.
    #[tokio::test]
    async fn only_damage_is_passed_over() {
        let (node, _) = testing::node("a.example");
        let mut damage = Damage::default();
        for concerned in ["b.example", "b.example", "c.example"] {
            let corrupt = Err::<(), _>(StoreError::Corrupt { family: "peer" });
            let passed = damage.pass_over(&node, ("a warning", concerned), corrupt);
            assert!(passed.await.unwrap().is_none());
        }
        let stopped = Err::<(), _>(StoreError::Stopped);
        let passed = damage.pass_over(&node, ("a warning", ""), stopped).await;
        assert!(matches!(passed, Err(StoreError::Stopped)));
        let passed = damage.pass_over(&node, ("a warning", ""), Ok(7)).await;
        assert_eq!(passed.unwrap(), Some(7));
        let log = audit::page(&node.store, node.random.as_ref(), 0, 100)
            .await
            .unwrap();
        let told = log.entries.iter();
        let told = told.filter(|entry| entry.action == "store.damaged");
        let told: Vec<_> = told.map(|entry| entry.subject.as_str()).collect();
        assert_eq!(told, ["b.example", "c.example"]);
    }
}
