//! OpenPGP signatures of Release files (RFC 9580, RFC 4880), checked against a keyring and a time.

use fault::{Fault, OrFault, Result};
use pgp::composed::{
    CleartextSignedMessage, Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Timestamp};

use crate::{BAD_SIGNATURE, KEYRING, UNKNOWN_KEY};

/// How far a signature's time may lie in the future: clocks differ a little.
const CLOCK_TOLERANCE: i64 = 24 * 3600;

/// Public keys of which one must have signed.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Adds the keys of a keyring file: binary, or in ASCII armour.
    ///
    /// # Errors
    /// [`KEYRING`] when it holds no key.
    pub fn add(&mut self, bytes: &[u8], name: &str) -> Result<()> {
        let fault = || Fault::new(KEYRING).arg("keyring", name);
        let before = self.keys.len();
        if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            // Several armoured blocks may stand one after the other.
            let text = String::from_utf8_lossy(bytes);
            for block in text.split_inclusive("-----END PGP PUBLIC KEY BLOCK-----") {
                if block.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
                    let (keys, _) = SignedPublicKey::from_string_many(block.trim_start()).or_fault(fault)?;
                    self.keys.extend(keys.flatten());
                }
            }
        } else {
            let keys = SignedPublicKey::from_bytes_many(bytes).or_fault(fault)?;
            self.keys.extend(keys.flatten());
        }
        if self.keys.len() == before {
            return Err(fault());
        }
        Ok(())
    }

    /// The text of an `InRelease` file that a key of the keyring has signed: exactly what is signed, nothing
    /// that stands around it.
    ///
    /// # Errors
    /// [`BAD_SIGNATURE`], [`UNKNOWN_KEY`].
    pub fn open_inrelease(&self, bytes: &[u8], now: i64) -> Result<String> {
        let bad = || Fault::new(BAD_SIGNATURE).arg("file", "InRelease");
        let text = std::str::from_utf8(bytes).or_fault(bad)?;
        let (message, _) = CleartextSignedMessage::from_string(text).or_fault(bad)?;
        let signed = message.signed_text();
        self.check(message.signatures(), signed.as_bytes(), now, "InRelease")?;
        Ok(signed.replace("\r\n", "\n"))
    }

    /// Checks a `Release` file by its `Release.gpg`.
    ///
    /// # Errors
    /// [`BAD_SIGNATURE`], [`UNKNOWN_KEY`].
    pub fn check_detached(&self, data: &[u8], signature: &[u8], now: i64) -> Result<()> {
        let bad = || Fault::new(BAD_SIGNATURE).arg("file", "Release.gpg");
        let signatures: Vec<Signature> = if signature.trim_ascii_start().starts_with(b"-----BEGIN") {
            let text = std::str::from_utf8(signature).or_fault(bad)?;
            let (found, _) = DetachedSignature::from_string_many(text).or_fault(bad)?;
            found.flatten().map(|s| s.signature).collect()
        } else {
            let found = DetachedSignature::from_bytes_many(signature).or_fault(bad)?;
            found.flatten().map(|s| s.signature).collect()
        };
        self.check(&signatures, data, now, "Release.gpg")
    }

    /// One good signature by a valid key is enough.
    fn check(&self, signatures: &[Signature], data: &[u8], now: i64, file: &str) -> Result<()> {
        let mut reasons = Vec::new();
        let mut strangers = Vec::new();
        for signature in signatures {
            match self.good(signature, data, now) {
                Ok(true) => return Ok(()),
                Ok(false) => strangers.push(issuer(signature)),
                Err(reason) => reasons.push(format!("{}: {reason}", issuer(signature))),
            }
        }
        if reasons.is_empty() && !strangers.is_empty() {
            return Err(Fault::new(UNKNOWN_KEY)
                .arg("file", file)
                .arg("keys", strangers.join(", ")));
        }
        let mut fault = Fault::new(BAD_SIGNATURE).arg("file", file);
        for reason in reasons {
            fault = fault.because_of(reason);
        }
        Err(fault)
    }

    /// Whether the signature is good; false when its key is not in the keyring, the reason when it is bad.
    fn good(&self, signature: &Signature, data: &[u8], now: i64) -> Result<bool, String> {
        if matches!(
            signature.hash_alg(),
            None | Some(HashAlgorithm::Md5 | HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160)
        ) {
            return Err("its hash algorithm is too weak".to_owned());
        }
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err("it is no signature of a document".to_owned());
        }
        let created = signature.created().map(seconds).ok_or("it has no time")?;
        if created > now + CLOCK_TOLERANCE {
            return Err("it is from the future; check the clock".to_owned());
        }
        if expired(
            created,
            signature.signature_expiration_time().map(|d| d.as_secs()),
            now,
        ) {
            return Err("it has expired".to_owned());
        }
        let mut reason = None;
        for key in &self.keys {
            let done = if issued_by(signature, &key.primary_key) {
                signature
                    .verify(&key.primary_key, data)
                    .map_err(|_| "it does not match the text".to_owned())
                    .and_then(|()| primary_is_valid(key, now))
            } else if let Some(subkey) = key.public_subkeys.iter().find(|s| issued_by(signature, &s.key)) {
                signature
                    .verify(&subkey.key, data)
                    .map_err(|_| "it does not match the text".to_owned())
                    .and_then(|()| primary_is_valid(key, now))
                    .and_then(|()| subkey_is_valid(key, subkey, now))
            } else {
                continue;
            };
            match done {
                Ok(()) => return Ok(true),
                Err(why) => reason = Some(why),
            }
        }
        reason.map_or(Ok(false), Err)
    }
}

fn seconds(time: Timestamp) -> i64 {
    i64::from(time.as_secs())
}

fn expired(from: i64, after: Option<u32>, now: i64) -> bool {
    after.is_some_and(|after| after != 0 && now > from + i64::from(after))
}

fn issuer(signature: &Signature) -> String {
    match (
        signature.issuer_fingerprint().first(),
        signature.issuer_key_id().first(),
    ) {
        (Some(fingerprint), _) => fingerprint.to_string().to_uppercase(),
        (None, Some(id)) => id.to_string().to_uppercase(),
        (None, None) => "unknown".to_owned(),
    }
}

fn issued_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    signature.issuer_fingerprint().contains(&&key.fingerprint())
        || (signature.issuer_fingerprint().is_empty()
            && signature.issuer_key_id().contains(&&key.legacy_key_id()))
}

/// Not revoked, and not expired by the newest of its own certifications.
fn primary_is_valid(key: &SignedPublicKey, now: i64) -> Result<(), String> {
    let primary = &key.primary_key;
    if key
        .details
        .revocation_signatures
        .iter()
        .any(|s| s.verify_key(primary).is_ok())
    {
        return Err("its key is revoked".to_owned());
    }
    let direct = key
        .details
        .direct_signatures
        .iter()
        .filter(|s| s.verify_key(primary).is_ok());
    let users = key.details.users.iter().flat_map(|user| {
        user.signatures.iter().filter(|s| {
            s.is_certification()
                && s.verify_certification(primary, pgp::types::Tag::UserId, &user.id)
                    .is_ok()
        })
    });
    let newest = direct
        .chain(users)
        .max_by_key(|s| s.created().map(seconds))
        .ok_or("its key does not certify itself")?;
    let lifetime = newest.key_expiration_time().map(|d| d.as_secs());
    if expired(seconds(primary.created_at()), lifetime, now) {
        return Err("its key has expired".to_owned());
    }
    Ok(())
}

/// Bound to the primary key for signing, not revoked, not expired.
fn subkey_is_valid(key: &SignedPublicKey, subkey: &SignedPublicSubKey, now: i64) -> Result<(), String> {
    let bound = |s: &&Signature| s.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok();
    let of = |typ| subkey.signatures.iter().filter(move |s| s.typ() == Some(typ));
    if of(SignatureType::SubkeyRevocation).any(|s| bound(&s)) {
        return Err("its subkey is revoked".to_owned());
    }
    let newest = of(SignatureType::SubkeyBinding)
        .filter(bound)
        .max_by_key(|s| s.created().map(seconds))
        .ok_or("its subkey is not bound to the key")?;
    let backed = newest.embedded_signature().is_some_and(|back| {
        back.verify_primary_key_binding(&subkey.key, &key.primary_key)
            .is_ok()
    });
    if !newest.key_flags().sign() || !backed {
        return Err("its subkey is not for signing".to_owned());
    }
    if expired(
        seconds(subkey.key.created_at()),
        newest.key_expiration_time().map(|d| d.as_secs()),
        now,
    ) {
        return Err("its subkey has expired".to_owned());
    }
    Ok(())
}
