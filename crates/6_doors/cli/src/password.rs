//! Passwords: asked for without echo or read from standard input, and hashed here; the plain word goes nowhere.

use std::io::{self, BufRead, IsTerminal, Write};

use fault::{Fault, OrFault, Result};
use sha_crypt::{PasswordHasher, ShaCrypt};

use crate::codes;
use crate::context::Context;
use crate::terminal::Silent;

/// A password, typed twice on the terminal, or the first line of standard input.
///
/// # Errors
/// When it is empty, or typed differently the second time, or cannot be read.
pub fn ask(context: &Context, user: &str, from_stdin: bool) -> Result<String> {
    let unreadable = || Fault::new(codes::PASSWORD);
    if from_stdin || !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).or_fault(unreadable)?;
        let password = line.trim_end_matches(['\n', '\r']).to_owned();
        return if password.is_empty() {
            Err(unreadable())
        } else {
            Ok(password)
        };
    }
    let mut typed = Vec::new();
    // One silence for both, so that nothing typed quickly is shown or lost in between.
    let silent = Silent::enter().or_fault(unreadable)?;
    for id in ["cli-password", "cli-password-again"] {
        let _ = write!(io::stderr(), "{} ", context.say(id, &[("user", user.into())]));
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).or_fault(unreadable)?;
        typed.push(line.trim_end_matches(['\n', '\r']).to_owned());
    }
    drop(silent);
    if typed[0].is_empty() || typed[0] != typed[1] {
        return Err(unreadable());
    }
    Ok(typed.swap_remove(0))
}

/// Longest password in bytes, CRYPT_MAX_PASSPHRASE_SIZE of crypt(3).
const LONGEST: usize = 512;

/// The hash that crypt(5) understands, `$6$…` (SHA-512, 5,000 rounds), with a random salt.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn hash(password: &str) -> Result<String> {
    let failed = || Fault::new(codes::PASSWORD);
    // More than crypt(3) takes, and more than anybody can wait for.
    if password.len() > LONGEST {
        return Err(failed().because_of(format!("{} > {LONGEST}", password.len())));
    }
    let mut salt = [0_u8; 12];
    rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty()).or_fault(failed)?;
    let hash = ShaCrypt::SHA512
        .hash_password_with_salt(password.as_bytes(), &salt)
        .or_fault(failed)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_crypt_and_differ_by_their_salt() {
        let hash_one = hash("secreto").unwrap();
        assert!(hash_one.starts_with("$6$"), "{hash_one}");
        assert_eq!(hash_one.rsplit('$').next().unwrap().len(), 86);
        assert_ne!(hash_one, hash("secreto").unwrap());
    }
}
