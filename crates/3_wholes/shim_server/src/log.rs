//! The console's log: two files of half the limit, the older one replaced when the newer is full.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A log that never takes more than its limit.
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    half: u64,
}

impl Log {
    /// Goes on with the log at `path`; without a file (a full disk) output is shown to clients only.
    #[must_use]
    pub fn open(path: PathBuf, limit: u64) -> Log {
        let file = append(&path).ok();
        let size = file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |metadata| metadata.len());
        Log {
            path,
            file,
            size,
            half: (limit / 2).max(1),
        }
    }

    /// Appends bytes; what the disk does not take is lost, and the guest goes on.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.size >= self.half {
                self.turn();
            }
            let room = usize::try_from(self.half - self.size.min(self.half)).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room.max(1)));
            if let Some(file) = &mut self.file {
                let _ = file.write_all(now);
            }
            self.size += now.len() as u64;
            bytes = later;
        }
    }

    fn turn(&mut self) {
        self.file = None;
        let _ = std::fs::rename(&self.path, self.older());
        self.file = append(&self.path).ok();
        self.size = 0;
    }

    fn older(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }

    /// The last bytes, at most `limit`, from the start of a line where there is one.
    #[must_use]
    pub fn tail(&self, limit: u64) -> Vec<u8> {
        let mut bytes = last(&self.path, limit).unwrap_or_default();
        let left = limit.saturating_sub(bytes.len() as u64);
        if left > 0 {
            let mut older = last(&self.older(), left).unwrap_or_default();
            older.append(&mut bytes);
            bytes = older;
        }
        if bytes.len() as u64 >= limit
            && let Some(end) = bytes.iter().position(|byte| *byte == b'\n')
        {
            bytes.drain(..=end);
        }
        bytes
    }
}

fn append(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

fn last(path: &std::path::Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_log_stays_within_its_limit_and_keeps_the_newest(
            writes in proptest::collection::vec(1usize..3000, 1..40),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("console.log");
            let mut log = Log::open(path.clone(), 4000);
            let mut all = Vec::new();
            for (number, length) in writes.iter().enumerate() {
                let bytes = vec![b'a' + u8::try_from(number % 26).unwrap(); *length];
                log.write(&bytes);
                all.extend(bytes);
            }
            let on_disk: u64 = std::fs::read_dir(dir.path()).unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
            prop_assert!(on_disk <= 4000);
            prop_assert!(on_disk >= (all.len() as u64).min(2000));
            let tail = log.tail(1500);
            prop_assert!(all.ends_with(&tail));
        }
    }

    #[test]
    fn a_log_is_taken_up_where_it_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        Log::open(path.clone(), 1000).write(b"one\n");
        Log::open(path.clone(), 1000).write(b"two\n");
        assert_eq!(Log::open(path, 1000).tail(100), b"one\ntwo\n");
    }

    #[test]
    fn a_log_that_cannot_be_written_does_no_harm() {
        let mut log = Log::open("/nonexistent/console.log".into(), 1000);
        log.write(&[b'x'; 5000]);
        assert!(log.tail(10).is_empty());
    }
}
