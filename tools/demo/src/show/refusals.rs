//! Act three: what must fail, and does, with the error that a user sees.

use entente_sdk::{Error, SendOptions};

use super::{Couple, Stage};
use crate::failure::{Failure, Result};
use crate::person::Person;

impl Stage<'_> {
    /// Each refusal, then proof that nothing else broke.
    pub(super) async fn refusals(&mut self, couple: &Couple) -> Result {
        self.display.act("What must fail, and does");
        self.strangers(couple).await?;
        self.lifetimes(couple).await?;
        self.insiders(couple).await?;
        self.suspension(couple).await
    }

    async fn strangers(&mut self, couple: &Couple) -> Result {
        let carol = Person::enrol(&self.c, "carol", "standard", &self.record).await?;
        let error = self
            .display
            .step(
                "Carol of c.example writes to Alice: no agreement",
                carol.try_to_start(&couple.alice.address),
            )
            .await?;
        self.refused("no-agreement", &error)?;
        let error = self
            .display
            .step(
                "Alice writes to Carol: no agreement that way either",
                couple.alice.try_to_start(&carol.address),
            )
            .await?;
        self.refused("no-agreement", &error)
    }

    async fn lifetimes(&mut self, couple: &Couple) -> Result {
        const DAY: u32 = 24 * 60 * 60;
        let cases = [
            (
                "Alice wants a message to live for a year: her user type forbids it",
                365 * DAY,
            ),
            (
                "Alice wants a message to live for 20 days: the agreement forbids it",
                20 * DAY,
            ),
            (
                "Alice wants a message to live for 5 seconds: her user type forbids it",
                5,
            ),
        ];
        for (title, ttl_seconds) in cases {
            let options = SendOptions {
                ttl_seconds: Some(ttl_seconds),
                ..SendOptions::default()
            };
            let error = self
                .display
                .step(title, couple.alice.try_to_say(couple.room, title, options))
                .await?;
            self.refused("ttl-out-of-bounds", &error)?;
        }
        Ok(())
    }

    async fn insiders(&mut self, couple: &Couple) -> Result {
        self.a
            .hsctl
            .done(&["user-type", "set", "inside-only", "--external", "none"])
            .await?;
        let dave = Person::enrol(&self.a, "dave", "inside-only", &self.record).await?;
        let error = self
            .display
            .step(
                "Dave of a.example, whose user type has no external scope, writes to Bob",
                dave.try_to_start(&couple.bob.address),
            )
            .await?;
        self.refused("external-scope", &error)?;
        let inside = async {
            let room = dave.start_conversation(&couple.alice.address).await?;
            couple.alice.wait_for_room(room).await?;
            dave.say(room, "from Dave, inside".to_owned(), false)
                .await?;
            self.all_shown("Dave writes inside").await
        };
        self.display
            .step("Dave writes to Alice, inside: that arrives", inside)
            .await
    }

    async fn suspension(&mut self, couple: &Couple) -> Result {
        let title = "the agreement is suspended; Alice writes to Bob";
        let error = self
            .display
            .step(title, async {
                self.a
                    .hsctl
                    .done(&["peer", "suspend", self.b.name, "--reason", "demonstration"])
                    .await?;
                couple
                    .alice
                    .try_to_say(couple.room, title, SendOptions::default())
                    .await
            })
            .await?;
        self.refused("agreement-suspended", &error)?;
        let resumed = async {
            self.a.hsctl.done(&["peer", "resume", self.b.name]).await?;
            let (alice, bob, room) = (&couple.alice, &couple.bob, couple.room);
            alice
                .say(room, "from Alice, resumed".to_owned(), false)
                .await?;
            // Her homeserver tells his of the resumption before it sends him anything.
            self.all_shown("the agreement is resumed").await?;
            bob.say(room, "from Bob, resumed".to_owned(), false).await?;
            self.all_shown("the agreement is resumed").await
        };
        self.display
            .step(
                "the agreement is resumed; both write again, and it arrives",
                resumed,
            )
            .await
    }

    /// Counts a refusal and shows what the user sees; another error than the expected one fails.
    fn refused(&mut self, code: &str, error: &Error) -> Result {
        self.display
            .note(&format!("\"{error}\" [{}]", error.code()));
        if error.code() != code {
            return Err(Failure::new(format!(
                "refused for another reason than {code}: {error} [{}]",
                error.code()
            )));
        }
        *self.refused.entry(code.to_owned()).or_default() += 1;
        Ok(())
    }
}
