//! `--keep`: the homeservers stay up for whoever wants to chat by hand.

use std::path::Path;

use super::{Stage, print};
use crate::failure::Result;
use crate::homeserver::Homeserver;

impl Stage<'_> {
    /// Two more accounts, and how to use them.
    pub(super) async fn how_to_chat(&self, programs: &Path) -> Result {
        let ann = terminal(&self.a, "ann", programs).await?;
        let ben = terminal(&self.b, "ben", programs).await?;
        print(&format!(
            "\nThe homeservers stay up until Ctrl-C. To chat by hand, in one terminal:\n\n{ann}\n\nand in another:\n\n{ben}\n"
        ))
    }
}

async fn terminal(server: &Homeserver, handle: &str, programs: &Path) -> Result<String> {
    let account = server.create_user(handle, "standard").await?;
    Ok(format!(
        "{} {}",
        programs.join("chat").display(),
        account.address
    ))
}
