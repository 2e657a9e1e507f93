//! Padded bodies, from the protocol's text (NET-050).

use crate::wire::{Decoder, Encoder};

const LEAST: usize = 2048;

/// A body of this content.
pub(crate) fn pad(content: &[u8]) -> Vec<u8> {
    let mut body = Encoder::new().vector(4, content).finish();
    body.resize(bucket(body.len()), 0);
    body
}

/// The content of a body, all of which is as it must be.
pub(crate) fn unpad(body: &[u8]) -> Option<Vec<u8>> {
    let mut input = Decoder::new(body);
    let content = input.vector(4)?;
    let zeros = input.take(body.len().checked_sub(content.len())?.checked_sub(4)?)?;
    let is_right =
        body.len() == bucket(content.len().checked_add(4)?) && zeros.iter().all(|byte| *byte == 0);
    is_right.then(|| content.to_vec())
}

fn bucket(length: usize) -> usize {
    length.next_power_of_two().max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is padded comes back, and only in its one form. Method: lengths around the borders, one byte more.
    #[test]
    fn padding_comes_off() {
        for (content, padded) in [(0, 2048), (2044, 2048), (2045, 4096), (1 << 20, 1 << 21)] {
            let mut body = pad(&vec![1; content]);
            assert_eq!(
                (body.len(), unpad(&body).map(|body| body.len())),
                (padded, Some(content))
            );
            body.push(0);
            assert_eq!(unpad(&body), None);
        }
    }
}
