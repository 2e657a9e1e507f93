//! What openmls computes with, for the one cipher suite of rooms: ring, and an HPKE (RFC 9180) that no MLS of
//! the homeserver or of clients uses.

use hpke::aead::AesGcm128;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, HpkeError, Kem as _, OpModeR, OpModeS, Serializable};
use openmls::prelude::tls_codec::SecretVLBytes;
use openmls_memory_storage::MemoryStorage;
use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeAeadType, HpkeCiphertext,
    HpkeConfig, HpkeKdfType, HpkeKemType, HpkeKeyPair, KemOutput, SignatureScheme,
};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use ring::{digest, hmac};

/// The suite of every room: 0x0001.
pub(crate) const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

type Kem = X25519HkdfSha256;
type PrivateKey = <Kem as hpke::Kem>::PrivateKey;
type PublicKey = <Kem as hpke::Kem>::PublicKey;
type Encapsulated = <Kem as hpke::Kem>::EncappedKey;

type Result<T> = std::result::Result<T, CryptoError>;

/// What a device's MLS stands on: computations, randomness, and what is kept in memory.
#[derive(Debug, Default)]
pub(crate) struct Provider {
    crypto: Computed,
    kept: MemoryStorage,
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = Computed;
    type RandProvider = Computed;
    type StorageProvider = MemoryStorage;

    fn storage(&self) -> &MemoryStorage {
        &self.kept
    }

    fn crypto(&self) -> &Computed {
        &self.crypto
    }

    fn rand(&self) -> &Computed {
        &self.crypto
    }
}

/// The computations.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Computed;

/// No randomness.
#[derive(Debug, thiserror::Error)]
#[error("no randomness")]
pub(crate) struct NoRandomness;

#[expect(clippy::disallowed_methods, reason = "MLS draws here")]
fn draw(bytes: &mut [u8]) -> std::result::Result<(), NoRandomness> {
    SystemRandom::new().fill(bytes).map_err(|_| NoRandomness)
}

impl OpenMlsRand for Computed {
    type Error = NoRandomness;

    fn random_array<const N: usize>(&self) -> std::result::Result<[u8; N], NoRandomness> {
        let mut bytes = [0; N];
        draw(&mut bytes)?;
        Ok(bytes)
    }

    fn random_vec(&self, len: usize) -> std::result::Result<Vec<u8>, NoRandomness> {
        let mut bytes = vec![0; len];
        draw(&mut bytes)?;
        Ok(bytes)
    }
}

fn only_sha256(hash: HashType) -> Result<()> {
    match hash {
        HashType::Sha2_256 => Ok(()),
        _ => Err(CryptoError::UnsupportedHashAlgorithm),
    }
}

fn only_ed25519(scheme: SignatureScheme) -> Result<()> {
    match scheme {
        SignatureScheme::ED25519 => Ok(()),
        _ => Err(CryptoError::UnsupportedSignatureScheme),
    }
}

fn only_rooms(HpkeConfig(kem, kdf, aead): HpkeConfig) -> Result<()> {
    match (kem, kdf, aead) {
        (HpkeKemType::DhKem25519, HpkeKdfType::HkdfSha256, HpkeAeadType::AesGcm128) => Ok(()),
        _ => Err(CryptoError::UnsupportedCiphersuite),
    }
}

fn sealing(alg: AeadType, key: &[u8], nonce: &[u8]) -> Result<(LessSafeKey, Nonce)> {
    if alg != AeadType::Aes128Gcm {
        return Err(CryptoError::UnsupportedAeadAlgorithm);
    }
    let key = UnboundKey::new(&AES_128_GCM, key).map_err(|_| CryptoError::InvalidLength)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::InvalidLength)?;
    Ok((LessSafeKey::new(key), nonce))
}

fn sign_with_hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

fn read<T: Deserializable>(bytes: &[u8]) -> Result<T> {
    T::from_bytes(bytes).map_err(|_| CryptoError::InvalidLength)
}

fn failed(error: HpkeError) -> CryptoError {
    match error {
        HpkeError::OpenError => CryptoError::HpkeDecryptionError,
        _ => CryptoError::CryptoLibraryError,
    }
}

impl OpenMlsCrypto for Computed {
    fn supports(&self, ciphersuite: Ciphersuite) -> Result<()> {
        if ciphersuite == SUITE {
            Ok(())
        } else {
            Err(CryptoError::UnsupportedCiphersuite)
        }
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        vec![SUITE]
    }

    fn hkdf_extract(&self, hash: HashType, salt: &[u8], ikm: &[u8]) -> Result<SecretVLBytes> {
        only_sha256(hash)?;
        Ok(sign_with_hmac(salt, &[ikm]).into())
    }

    fn hmac(&self, hash: HashType, key: &[u8], message: &[u8]) -> Result<SecretVLBytes> {
        only_sha256(hash)?;
        Ok(sign_with_hmac(key, &[message]).into())
    }

    /// RFC 5869, section 2.3.
    fn hkdf_expand(
        &self,
        hash: HashType,
        prk: &[u8],
        info: &[u8],
        okm_len: usize,
    ) -> Result<SecretVLBytes> {
        only_sha256(hash)?;
        let mut okm = Vec::new();
        let mut block = Vec::new();
        for number in 1..=u8::MAX {
            if okm.len() >= okm_len {
                break;
            }
            block = sign_with_hmac(prk, &[&block, info, &[number]]);
            okm.extend(&block);
        }
        if okm.len() < okm_len {
            return Err(CryptoError::HkdfOutputLengthInvalid);
        }
        okm.truncate(okm_len);
        Ok(okm.into())
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>> {
        only_sha256(hash)?;
        Ok(digest::digest(&digest::SHA256, data).as_ref().to_vec())
    }

    fn aead_encrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>> {
        let (key, nonce) = sealing(alg, key, nonce)?;
        let mut sealed = data.to_vec();
        key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed)
            .map_err(|_| CryptoError::CryptoLibraryError)?;
        Ok(sealed)
    }

    fn aead_decrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        ct_tag: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>> {
        let (key, nonce) = sealing(alg, key, nonce)?;
        let mut sealed = ct_tag.to_vec();
        key.open_in_place(nonce, Aad::from(aad), &mut sealed)
            .map(|data| data.to_vec())
            .map_err(|_| CryptoError::AeadDecryptionError)
    }

    /// Devices have keys that are certified: none is made here.
    fn signature_key_gen(&self, _: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>)> {
        Err(CryptoError::UnsupportedSignatureScheme)
    }

    fn verify_signature(
        &self,
        alg: SignatureScheme,
        data: &[u8],
        pk: &[u8],
        signature: &[u8],
    ) -> Result<()> {
        only_ed25519(alg)?;
        UnparsedPublicKey::new(&ED25519, pk)
            .verify(data, signature)
            .map_err(|_| CryptoError::InvalidSignature)
    }

    fn sign(&self, alg: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>> {
        only_ed25519(alg)?;
        let key =
            Ed25519KeyPair::from_seed_unchecked(key).map_err(|_| CryptoError::InvalidLength)?;
        Ok(key.sign(data).as_ref().to_vec())
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        aad: &[u8],
        ptxt: &[u8],
    ) -> Result<HpkeCiphertext> {
        only_rooms(config)?;
        let receiver: PublicKey = read(pk_r)?;
        let (encapsulated, sealed) = hpke::single_shot_seal::<AesGcm128, HkdfSha256, Kem>(
            &OpModeS::Base,
            &receiver,
            info,
            ptxt,
            aad,
        )
        .map_err(failed)?;
        Ok(HpkeCiphertext {
            kem_output: encapsulated.to_bytes().to_vec().into(),
            ciphertext: sealed.into(),
        })
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        sk_r: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>> {
        only_rooms(config)?;
        let receiver: PrivateKey = read(sk_r)?;
        let encapsulated: Encapsulated = read(input.kem_output.as_slice())?;
        hpke::single_shot_open::<AesGcm128, HkdfSha256, Kem>(
            &OpModeR::Base,
            &receiver,
            &encapsulated,
            info,
            input.ciphertext.as_slice(),
            aad,
        )
        .map_err(failed)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<(KemOutput, ExporterSecret)> {
        only_rooms(config)?;
        let receiver: PublicKey = read(pk_r)?;
        let (encapsulated, context) =
            hpke::setup_sender::<AesGcm128, HkdfSha256, Kem>(&OpModeS::Base, &receiver, info)
                .map_err(failed)?;
        let mut secret = vec![0; exporter_length];
        context
            .export(exporter_context, &mut secret)
            .map_err(failed)?;
        Ok((encapsulated.to_bytes().to_vec(), secret.into()))
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        sk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<ExporterSecret> {
        only_rooms(config)?;
        let receiver: PrivateKey = read(sk_r)?;
        let encapsulated: Encapsulated = read(enc)?;
        let context = hpke::setup_receiver::<AesGcm128, HkdfSha256, Kem>(
            &OpModeR::Base,
            &receiver,
            &encapsulated,
            info,
        )
        .map_err(failed)?;
        let mut secret = vec![0; exporter_length];
        context
            .export(exporter_context, &mut secret)
            .map_err(failed)?;
        Ok(secret.into())
    }

    fn derive_hpke_keypair(&self, config: HpkeConfig, ikm: &[u8]) -> Result<HpkeKeyPair> {
        only_rooms(config)?;
        let (private, public) = Kem::derive_keypair(ikm);
        Ok(HpkeKeyPair {
            private: private.to_bytes().to_vec().into(),
            public: public.to_bytes().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex::decode(hex).unwrap()
    }

    /// Goal: the key derivation is HKDF, also over more than one block. Method: the test vector of RFC 5869, appendix A.1.
    #[test]
    fn keys_are_derived_by_hkdf() {
        let prk = Computed
            .hkdf_extract(
                HashType::Sha2_256,
                &bytes("000102030405060708090a0b0c"),
                &[0x0b; 22],
            )
            .unwrap();
        let expected = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5";
        assert_eq!(prk.as_slice(), bytes(expected));
        let info = bytes("f0f1f2f3f4f5f6f7f8f9");
        let okm = Computed
            .hkdf_expand(HashType::Sha2_256, prk.as_slice(), &info, 42)
            .unwrap();
        let expected =
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
        assert_eq!(okm.as_slice(), bytes(expected));
        let too_long =
            Computed.hkdf_expand(HashType::Sha2_256, prk.as_slice(), &info, 255 * 32 + 1);
        assert!(too_long.is_err());
    }

    /// Goal: the key pair for encryption is the one of RFC 9180. Method: the receiver's keys of its appendix A.1.1.
    #[test]
    fn key_pairs_are_derived_as_hpke_does() {
        let config = HpkeConfig(
            HpkeKemType::DhKem25519,
            HpkeKdfType::HkdfSha256,
            HpkeAeadType::AesGcm128,
        );
        let ikm = bytes("6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037");
        let pair = Computed.derive_hpke_keypair(config, &ikm).unwrap();
        let public = "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d";
        assert_eq!(pair.public, bytes(public));
    }
}
