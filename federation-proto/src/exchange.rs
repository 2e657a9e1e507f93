//! What proves to a stranger that one server sent a transaction and the other took it: the origin's
//! signature over the transaction's root, and the destination's receipt, which names that root.
//!
//! Both sides can keep it. It holds no payload; with an envelope and its path to the root it proves that
//! envelope too.

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::keys::{ENVELOPE_SIGNATURE_BYTES, KeyId};
use crate::limits::RECEIPT_BYTES_MAX;
use crate::manifest::Manifest;
use crate::receipt::{self, Receipt};
use crate::transaction::{RootSignature, VerifyError};

/// Proof of one transaction and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeProof {
    /// The origin's signature over the root.
    pub signature: RootSignature,
    /// The receipt's bytes.
    pub receipt: Bytes,
}

impl ExchangeProof {
    /// Checks both signatures, with keys that the two manifests list as valid when the receipt was
    /// signed. Whoever calls this has decided whose manifests they are.
    ///
    /// # Errors
    /// When the receipt is none, or one of the two did not sign this.
    pub fn verify(
        &self,
        origin: &Manifest,
        destination: &Manifest,
    ) -> Result<Receipt, VerifyError> {
        let receipt = receipt::decode(self.receipt.clone())?;
        let body = receipt.claims();
        self.signature.verify(
            &body.link,
            body.results.len(),
            body.root,
            origin,
            body.at_ms,
        )?;
        let (link, at_ms) = (body.link.clone(), body.at_ms);
        receipt.verify(destination, &link, at_ms)
    }
}

impl Wire for ExchangeProof {
    const BYTES_MAX: usize = 8 + ENVELOPE_SIGNATURE_BYTES + 4 + RECEIPT_BYTES_MAX;
    const NAME: &'static str = "exchange proof";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(&self.signature.key_id.0);
        writer.fixed(&self.signature.signature);
        writer.opaque32("receipt", RECEIPT_BYTES_MAX, &self.receipt);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            signature: RootSignature {
                key_id: KeyId(reader.fixed("key id")?),
                signature: reader.fixed("signature")?,
            },
            receipt: reader.opaque32("receipt", RECEIPT_BYTES_MAX)?,
        })
    }
}
