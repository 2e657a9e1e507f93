//! Own encoder and decoder of the protocol's presentation language.
//!
//! Written from the protocol's text and sharing no line with any server: what both sides read in the
//! same way, they read so because the text says it. It encodes anything, right or wrong.

/// Builds bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A vector whose length has `width` bytes.
    pub(crate) fn vector(mut self, width: usize, bytes: &[u8]) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes();
        self.0
            .extend(length.iter().skip(length.len().saturating_sub(width)));
        self.0.extend(bytes);
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads bytes; `None` when they end too early.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.fixed().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_be_bytes)
    }

    pub(crate) fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self
            .take(width)?
            .iter()
            .fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
        self.take(length)
    }

    pub(crate) fn text(&mut self, width: usize) -> Option<String> {
        String::from_utf8(self.vector(width)?.to_vec()).ok()
    }

    /// What has not been read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: lengths and integers are big-endian and of the width asked for. Method: fixed bytes.
    #[test]
    fn fixed_vectors() {
        let bytes = Encoder::new()
            .u16(0x0102)
            .vector(1, b"a")
            .vector(4, b"bc")
            .finish();
        assert_eq!(bytes, [1, 2, 1, b'a', 0, 0, 0, 2, b'b', b'c']);
        let mut decoder = Decoder::new(&bytes);
        assert_eq!(decoder.u16(), Some(0x0102));
        assert_eq!(decoder.vector(1), Some(&b"a"[..]));
        assert_eq!(decoder.vector(4), Some(&b"bc"[..]));
        assert!(decoder.is_empty() && decoder.u8().is_none());
    }
}
