//! A file that appears by one rename when it is whole.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fault::Result;

use crate::tree::At;

/// The disk while it is made, beside its final name; removed when it does not become the disk.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Partial {
    pub(super) fn new(out: &Path) -> Result<Self> {
        let mut path = out.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        // What a killed run has left.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .at(&path)?;
        Ok(Partial { path, file })
    }

    pub(super) fn keep(self, out: &Path) -> Result<()> {
        self.file.sync_all().at(out)?;
        fs::rename(&self.path, out).at(out)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename there is nothing of this name.
        let _ = fs::remove_file(&self.path);
    }
}
