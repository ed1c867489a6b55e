//! What the tests of images share: a model of a disk, random work on it, and the tools of others.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs::File;
use std::path::Path;
use std::process::Command;

use disk::Image;
use proptest::prelude::*;

/// One step of work on a disk.
#[derive(Clone, Debug)]
pub enum Step {
    Write { at: u64, len: usize, seed: u8 },
    Zero { at: u64, len: u64, unmap: bool },
    Discard { at: u64, len: u64 },
    Read { at: u64, len: usize },
    Flush,
    Reopen,
}

/// Random steps for a disk of this size; pieces are up to `most` bytes, often on sector borders.
pub fn steps(size: u64, most: u64) -> impl Strategy<Value = Vec<Step>> {
    let range = (0..size, 1..=most, any::<bool>()).prop_map(move |(at, len, aligned)| {
        let (at, len) = if aligned {
            (at & !511, (len & !511).max(512))
        } else {
            (at, len)
        };
        (at, len.min(size - at))
    });
    let step = prop_oneof![
        6 => (range.clone(), any::<u8>()).prop_map(|((at, len), seed)| Step::Write { at, len: len as usize, seed }),
        2 => (range.clone(), any::<bool>()).prop_map(|((at, len), unmap)| Step::Zero { at, len, unmap }),
        2 => range.clone().prop_map(|(at, len)| Step::Discard { at, len }),
        2 => range.prop_map(|(at, len)| Step::Read { at, len: len as usize }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n / 3) as u8 ^ seed | 1).collect()
}

/// Does a step to the image and to the model; `Reopen` is the caller's.
pub fn apply(image: &dyn Image, model: &mut [u8], step: &Step) {
    match *step {
        Step::Write { at, len, seed } => {
            let bytes = pattern(len, seed);
            if seed % 2 == 0 {
                image.write_at(&bytes, at).unwrap();
            } else {
                let (a, b) = bytes.split_at(len / 3);
                let parts = [std::io::IoSlice::new(a), std::io::IoSlice::new(b)];
                image.write_vectored_at(&parts, at).unwrap();
            }
            model[at as usize..at as usize + len].copy_from_slice(&bytes);
        }
        Step::Zero { at, len, unmap } => {
            image.write_zeroes(at, len, unmap).unwrap();
            model[at as usize..(at + len) as usize].fill(0);
        }
        Step::Discard { at, len } => {
            image.discard(at, len).unwrap();
            let mut now = vec![0; len as usize];
            image.read_at(&mut now, at).unwrap();
            for (old, new) in model[at as usize..].iter_mut().zip(now) {
                assert!(new == *old || new == 0, "a discarded byte has become another");
                *old = new;
            }
        }
        Step::Read { at, len } => {
            let mut bytes = vec![0xee; len];
            if at % 2 == 0 {
                image.read_at(&mut bytes, at).unwrap();
            } else {
                let (a, b) = bytes.split_at_mut(len / 2);
                let mut parts = [std::io::IoSliceMut::new(a), std::io::IoSliceMut::new(b)];
                image.read_vectored_at(&mut parts, at).unwrap();
            }
            assert!(bytes == model[at as usize..at as usize + len]);
        }
        Step::Flush => image.flush().unwrap(),
        Step::Reopen => {}
    }
}

/// The whole disk.
pub fn all(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0xee; image.size() as usize];
    image.read_at(&mut bytes, 0).unwrap();
    bytes
}

pub fn edit(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

pub fn new(path: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap()
}

/// Where tools are, those of the administrator too.
pub fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Runs a tool; `None` when it is not installed. Panics when it ends with a status that is not allowed.
pub fn tool(words: &[&str], allowed: &[i32]) -> Option<String> {
    let out = match Command::new(words[0])
        .args(&words[1..])
        .env("PATH", path())
        .output()
    {
        Ok(out) => out,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {} is not installed", words[0]);
            return None;
        }
        Err(error) => panic!("{words:?}: {error}"),
    };
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(
        out.status.code().is_some_and(|code| allowed.contains(&code)),
        "{words:?}: {}\n{text}",
        out.status
    );
    Some(text)
}
