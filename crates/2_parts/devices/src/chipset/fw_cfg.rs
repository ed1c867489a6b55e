//! fw_cfg (QEMU, docs/specs/fw_cfg.rst): how firmware and kernels read what the machine has for them, by numbered items and named files.

use std::sync::{Arc, Mutex};

use fault::Result;
use guestmem::Memory;
use serde::{Deserialize, Serialize};

use crate::{Access, Device, Ports, Saved};

/// Its ports: selector, data, and the DMA address.
pub const PORTS: &[(u16, u32)] = &[(0x510, 12)];

/// Item: `QEMU`.
pub const SIGNATURE: u16 = 0;
/// Item: what the interface can; bit 1 for DMA.
pub const ID: u16 = 1;
/// Item: number of processors.
pub const PROCESSORS: u16 = 5;
/// Item: the directory of files.
const DIRECTORY: u16 = 0x19;
/// The first file's item.
const FIRST_FILE: u16 = 0x20;
/// Most files, and the length of their names with its terminating zero.
const MOST_FILES: usize = 0x1000;
const NAME: usize = 56;
/// What is read beyond an item's end are zeros; more than this at once is an error.
const MOST_BEYOND: u64 = 1 << 20;

const ERROR: u32 = 1;
const READ: u32 = 2;
const SKIP: u32 = 4;
const SELECT: u32 = 8;
const WRITE: u32 = 16;

/// Who is told the contents of a file that the guest wrote to; with the device's lock held.
pub type Written = Box<dyn FnMut(&[u8]) + Send>;

/// A file.
pub struct File {
    /// Its name, of at most 55 bytes: `etc/e820`.
    pub name: String,
    /// Its bytes.
    pub contents: Vec<u8>,
    /// Told of its contents after the guest wrote to them; without it the file is read-only.
    pub written: Option<Written>,
}

impl File {
    /// A read-only file.
    #[must_use]
    pub fn new(name: &str, contents: Vec<u8>) -> Self {
        File {
            name: name.to_owned(),
            contents,
            written: None,
        }
    }
}

struct Item {
    key: u16,
    initial: Vec<u8>,
    contents: Vec<u8>,
    written: Option<Written>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    selected: u16,
    offset: u64,
    /// The upper half of the DMA address.
    high: u32,
    /// Contents of the writable items.
    changed: Vec<(u16, Vec<u8>)>,
}

/// The interface.
pub struct FwCfg {
    memory: Memory,
    items: Vec<Item>,
    state: State,
}

impl FwCfg {
    /// An interface with numbered items and files. Files are listed in the order given (firmware looks them up by name); names that are
    /// too long, and files beyond 4096, are left out.
    #[must_use]
    pub fn new(memory: Memory, items: Vec<(u16, Vec<u8>)>, files: Vec<File>) -> Arc<Mutex<Self>> {
        let mut all = vec![(SIGNATURE, b"QEMU".to_vec(), None), (ID, vec![3, 0, 0, 0], None)];
        all.extend(items.into_iter().map(|(key, contents)| (key, contents, None)));
        let files: Vec<File> = files
            .into_iter()
            .filter(|file| file.name.len() < NAME)
            .take(MOST_FILES)
            .collect();
        let mut directory = (files.len() as u32).to_be_bytes().to_vec();
        for (key, file) in (FIRST_FILE..).zip(files) {
            directory.extend(
                u32::try_from(file.contents.len())
                    .unwrap_or(u32::MAX)
                    .to_be_bytes(),
            );
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let mut name = file.name.into_bytes();
            name.resize(NAME, 0);
            directory.extend(name);
            all.push((key, file.contents, file.written));
        }
        all.push((DIRECTORY, directory, None));
        let items = all
            .into_iter()
            .map(|(key, contents, written)| Item {
                key,
                initial: if written.is_some() {
                    contents.clone()
                } else {
                    Vec::new()
                },
                contents,
                written,
            })
            .collect();
        Arc::new(Mutex::new(FwCfg {
            memory,
            items,
            state: State::default(),
        }))
    }

    fn select(&mut self, key: u16) {
        // Bit 14 asked for writing in old versions; bit 15 names items of an architecture.
        self.state.selected = key & !0x4000;
        self.state.offset = 0;
    }

    fn item(&mut self) -> Option<&mut Item> {
        let key = self.state.selected;
        self.items.iter_mut().find(|item| item.key == key)
    }

    fn read_byte(&mut self) -> u8 {
        let offset = self.state.offset;
        self.state.offset = offset.saturating_add(1);
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        self.item()
            .and_then(|item| item.contents.get(at).copied())
            .unwrap_or(0)
    }

    /// What the guest asks for at this address.
    fn transfer(&mut self, address: u64) {
        let mut request = [0; 16];
        if self.memory.read(address, &mut request).is_err() {
            return;
        }
        let word =
            |at: usize| u32::from_be_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]]);
        let control = word(0);
        let target = u64::from(word(8)) << 32 | u64::from(word(12));
        if control & SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        let done = self.copy(control, u64::from(word(4)), target);
        let result = if done.is_some() { 0 } else { ERROR };
        // The request lies in memory: it was read from there.
        let _ = self.memory.write_u32(address, result.to_be());
    }

    fn copy(&mut self, control: u32, len: u64, target: u64) -> Option<()> {
        let (offset, memory) = (self.state.offset, self.memory.clone());
        let end = offset.checked_add(len)?;
        let item = self.item();
        if control & READ != 0 {
            let contents = item.map_or(&[][..], |item| &item.contents);
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(contents.len());
            let to = usize::try_from(end).unwrap_or(usize::MAX).min(contents.len());
            let part = &contents[from..to];
            let beyond = len - part.len() as u64;
            if beyond > MOST_BEYOND {
                return None;
            }
            memory.write(target, part).ok()?;
            if beyond > 0 {
                let start = target.checked_add(part.len() as u64)?;
                memory
                    .block()
                    .fill(memory.offset(start, beyond).ok()?, beyond, 0)
                    .ok()?;
            }
        } else if control & WRITE != 0 {
            let item = item?;
            let written = item.written.as_mut()?;
            let range = usize::try_from(offset).ok()?..usize::try_from(end).ok()?;
            memory.read(target, item.contents.get_mut(range)?).ok()?;
            written(&item.contents);
        } else if control & SKIP == 0 {
            return Some(());
        }
        self.state.offset = end;
        Some(())
    }
}

impl Device for FwCfg {
    fn name(&self) -> &str {
        "fw_cfg"
    }

    fn reset(&mut self) {
        self.state = State::default();
        for item in self.items.iter_mut().filter(|item| item.written.is_some()) {
            item.contents.clone_from(&item.initial);
        }
    }

    fn save(&self) -> Result<Saved> {
        let mut state = self.state.clone();
        let writable = self.items.iter().filter(|item| item.written.is_some());
        state.changed = writable.map(|item| (item.key, item.contents.clone())).collect();
        Saved::new(1, &state)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.state = saved.fields(1)?;
        for (key, contents) in std::mem::take(&mut self.state.changed) {
            let same = |item: &&mut Item| item.key == key && item.written.is_some();
            if let Some(item) = self.items.iter_mut().find(same)
                && item.contents.len() == contents.len()
            {
                item.contents = contents;
            }
        }
        Ok(())
    }

    fn ports(&mut self) -> Option<&mut dyn Ports> {
        Some(self)
    }
}

impl Ports for FwCfg {
    fn read(&mut self, port: u16, data: &mut [u8]) -> Access {
        match port {
            0x510 => data.copy_from_slice(&u32::from(self.state.selected).to_le_bytes()[..data.len()]),
            0x511 => data.fill_with(|| self.read_byte()),
            // Says that there is DMA.
            0x514..=0x51b => {
                for (at, byte) in (usize::from(port - 0x514)..).zip(data) {
                    *byte = b"QEMU CFG".get(at).copied().unwrap_or(0);
                }
            }
            _ => return Access::Unclaimed,
        }
        Access::Done
    }

    fn write(&mut self, port: u16, data: &[u8]) -> Access {
        match (port, data) {
            (0x510, [low, high, ..]) => self.select(u16::from_le_bytes([*low, *high])),
            (0x514, &[a, b, c, d]) => self.state.high = u32::from_be_bytes([a, b, c, d]),
            (0x518, &[a, b, c, d]) => {
                let address = u64::from(std::mem::take(&mut self.state.high)) << 32;
                self.transfer(address | u64::from(u32::from_be_bytes([a, b, c, d])));
            }
            _ => return Access::Unclaimed,
        }
        Access::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Heard = Arc<Mutex<Vec<u8>>>;

    fn made() -> (Memory, Heard, Arc<Mutex<FwCfg>>) {
        let memory = Memory::new(1 << 20).unwrap();
        let heard = Heard::default();
        let told = heard.clone();
        let mut address = File::new("etc/address", vec![0; 8]);
        address.written = Some(Box::new(move |bytes| *told.lock().unwrap() = bytes.to_vec()));
        let files = vec![File::new("etc/hello", b"hello, world".to_vec()), address];
        let made = FwCfg::new(memory.clone(), vec![(PROCESSORS, vec![2, 0])], files);
        (memory, heard, made)
    }

    fn bytes(it: &mut FwCfg, key: u16, len: usize) -> Vec<u8> {
        Ports::write(it, 0x510, &key.to_le_bytes());
        let read = || {
            let mut data = [0];
            Ports::read(it, 0x511, &mut data);
            data[0]
        };
        std::iter::repeat_with(read).take(len).collect()
    }

    fn request(memory: &Memory, it: &mut FwCfg, control: u32, len: u32, target: u64) -> u32 {
        let mut bytes = control.to_be_bytes().to_vec();
        bytes.extend(len.to_be_bytes());
        bytes.extend(target.to_be_bytes());
        memory.write(0x1000, &bytes).unwrap();
        Ports::write(it, 0x514, &[0; 4]);
        Ports::write(it, 0x518, &0x1000_u32.to_be_bytes());
        u32::from_be(memory.read_u32(0x1000).unwrap())
    }

    #[test]
    fn items_and_the_directory_are_read_byte_by_byte() {
        let (_, _, it) = made();
        let mut it = it.lock().unwrap();
        assert_eq!(bytes(&mut it, SIGNATURE, 5), b"QEMU\0");
        assert_eq!(bytes(&mut it, PROCESSORS, 2), [2, 0]);
        let directory = bytes(&mut it, DIRECTORY, 4 + 64);
        assert_eq!(directory[..12], [0, 0, 0, 2, 0, 0, 0, 12, 0, 0x20, 0, 0]);
        assert_eq!(&directory[12..22], b"etc/hello\0");
        assert_eq!(bytes(&mut it, 0x20, 13), b"hello, world\0");
        assert_eq!(bytes(&mut it, 0x7777, 2), [0, 0]);
    }

    #[test]
    fn memory_is_filled_and_read_by_requests() {
        let (memory, heard, it) = made();
        let mut it = it.lock().unwrap();
        assert_eq!(request(&memory, &mut it, 0x20 << 16 | SELECT | SKIP, 7, 0), 0);
        memory.write(0x2000, &[9; 8]).unwrap();
        assert_eq!(request(&memory, &mut it, READ, 7, 0x2000), 0);
        let mut got = [0; 8];
        memory.read(0x2000, &mut got).unwrap();
        assert_eq!(&got, b"world\0\0\x09");
        memory.write(0x3000, &[1, 2, 3, 4]).unwrap();
        assert_eq!(
            request(&memory, &mut it, 0x21 << 16 | SELECT | WRITE, 4, 0x3000),
            0
        );
        assert_eq!(*heard.lock().unwrap(), [1, 2, 3, 4, 0, 0, 0, 0]);
        assert_eq!(
            request(&memory, &mut it, 0x21 << 16 | SELECT | WRITE, 9, 0x3000),
            ERROR
        );
        assert_eq!(
            request(&memory, &mut it, 0x20 << 16 | SELECT | WRITE, 4, 0x3000),
            ERROR
        );
        assert_eq!(
            request(&memory, &mut it, 0x20 << 16 | SELECT | READ, u32::MAX, 0),
            ERROR
        );
        assert_eq!(request(&memory, &mut it, READ, 4, u64::MAX - 1), ERROR);
    }
}
