//! Looking people up. A look-up is of the moment: whoever asks waits for its answer, and an answer that comes
//! when nobody waits any more is dropped.

use homeserver_api::ids::{RequestId, ServerName};
use homeserver_api::refusal::Refusal;
use homeserver_api::session::{Listing, Sought, SubmissionBody};

use super::Core;
use super::records::Purpose;
use crate::error::Error;

impl Core {
    /// Asks for people of an organisation; the request that the answer will name.
    pub(crate) fn look_up(
        &mut self,
        server: ServerName,
        sought: Sought,
    ) -> Result<RequestId, Error> {
        let request = RequestId::from_bytes(self.random_bytes()?);
        let body = SubmissionBody::LookUp {
            request,
            server,
            sought,
        };
        self.enqueue(body, Purpose::LookUp { request })?;
        Ok(request)
    }

    /// Takes in an answer.
    pub(super) fn take_directory(&mut self, request: RequestId, result: Result<Listing, Refusal>) {
        self.effects.look_ups.push((request, result));
    }
}
