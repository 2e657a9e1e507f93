//! A transaction that was refused whole: smaller ones, until the envelope that is to blame is alone.

use std::collections::HashMap;

use federation_proto::envelope::Lane;
use federation_proto::link::BatchLimits;
use federation_proto::refusal::Refusal;

use super::{Step, Worker};
use crate::federation::outbound::queue::Load;
use crate::federation::outbound::request::RequestError;
use crate::federation::outbound::settle;
use crate::federation::peers::PeerView;
use crate::store::StoreError;
use crate::store::outbox::WaitingRow;

/// How long after a transaction that was refused whole they stay as small as that made them.
const SMALL_MS: u64 = 60 * 1000;
/// An envelope is given up when it, alone in a transaction, could not be read this often while others
/// could be,
const STRIKES_MAX: u32 = 3;
/// or this often when there were no others.
const STRIKES_ALONE_MAX: u32 = 20;

/// A transaction was refused whole: which of its envelopes is to blame?
pub(super) struct Suspicion {
    since_ms: u64,
    /// Transactions have at most so many envelopes meanwhile.
    envelopes_max: usize,
    /// Whether a transaction was taken since.
    pub(super) others_pass: bool,
    /// How often the first one of a lane could not be read alone.
    strikes: HashMap<(Lane, u64), u32>,
}

impl Worker {
    /// How large a transaction may be.
    pub(super) fn limits(&mut self, now_ms: u64) -> BatchLimits {
        let over = |suspicion: &Suspicion| now_ms.abs_diff(suspicion.since_ms) > SMALL_MS;
        if self.suspicion.as_ref().is_some_and(over) {
            self.suspicion = None;
        }
        let limits = BatchLimits {
            bytes_max: self.pace.bytes_max(),
            ..BatchLimits::default()
        };
        match &self.suspicion {
            Some(suspicion) => BatchLimits {
                envelopes_max: limits.envelopes_max.min(suspicion.envelopes_max),
                ..limits
            },
            None => limits,
        }
    }

    /// A transaction was refused whole: sends half as many at once, until the one that is to blame is
    /// alone, and in the end gives that one up.
    pub(super) async fn split(
        &mut self,
        peer: &PeerView,
        load: Load,
        error: &RequestError,
        now_ms: u64,
    ) -> Result<Step, StoreError> {
        let count = load.rows.len();
        let suspicion = self.suspicion.get_or_insert_with(|| Suspicion {
            since_ms: now_ms,
            envelopes_max: count,
            others_pass: false,
            strikes: HashMap::new(),
        });
        suspicion.since_ms = now_ms;
        suspicion.envelopes_max = (count / 2).max(1);
        let unreadable = error.unreadable();
        let (Some(code), [alone]) = (unreadable, load.rows.as_slice()) else {
            self.queue.put_back(load);
            return match unreadable {
                Some(_) => Ok(Step::Again),
                None => self.failed(error).await,
            };
        };
        let strikes = suspicion
            .strikes
            .entry((alone.lane, alone.number))
            .or_default();
        *strikes = strikes.saturating_add(1);
        let enough = if suspicion.others_pass {
            STRIKES_MAX
        } else {
            STRIKES_ALONE_MAX
        };
        if *strikes < enough {
            self.queue.put_back(load);
            return self.failed(error).await;
        }
        self.suspicion = None;
        let refusal = Refusal::new(code, format!("the other server can't read it: {error}"));
        let ended = [(alone.clone(), refusal)];
        self.queue.put_back(load);
        self.give_up(peer, &ended).await
    }

    /// Gives up rows that were put back.
    pub(super) async fn give_up(
        &mut self,
        peer: &PeerView,
        ended: &[(WaitingRow, Refusal)],
    ) -> Result<Step, StoreError> {
        let Some(fence) = self.fence.clone() else {
            return Ok(Step::Gone);
        };
        let buried = settle::bury(&self.node, &self.server, ended, &fence).await?;
        let Some(buried) = buried else {
            return Ok(self.start_over(peer));
        };
        Ok(match self.queue.buried(buried) {
            Ok(()) => Step::Again,
            Err(_) => self.start_over(peer),
        })
    }
}
