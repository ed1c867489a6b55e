//! Whether a system can drive the machine's disk: in its kernel, or by modules in its initrd.

use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use super::volumes::Volumes;
use super::{Choice, lz4};

/// Most plain bytes of an initrd that are looked through.
const MOST_PLAIN: u64 = 4 << 30;
/// Most bytes of a list of modules inside.
const MOST_LIST: u64 = 4 << 20;
/// Longest name, as the kernel reads (`PATH_MAX`).
const MOST_NAME: u64 = 4096;

/// Where a driver is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// In the kernel.
    BuiltIn,
    /// A module in the initrd.
    Module,
    /// In neither.
    Missing,
    /// Not known: the initrd cannot be looked through, for this reason.
    Unknown(String),
}

/// The drivers that the machine's disk needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Virtio {
    /// `virtio_pci`.
    pub pci: Driver,
    /// `virtio_blk`.
    pub block: Driver,
}

impl Virtio {
    /// The first driver that is missing for sure.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        [("virtio_pci", &self.pci), ("virtio_blk", &self.block)]
            .into_iter()
            .find(|(_, driver)| **driver == Driver::Missing)
            .map(|(name, _)| name)
    }
}

/// What has been seen of one driver.
struct Search {
    module: &'static str,
    option: &'static str,
    found: Option<Driver>,
}

impl Search {
    /// Whether a line of a list of modules, or a path, names the driver's module, compressed or not.
    fn is_module(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let name: Vec<u8> = name
            .iter()
            .map(|byte| if *byte == b'-' { b'_' } else { *byte })
            .collect();
        let Some(end) = name.strip_prefix(self.module.as_bytes()) else {
            return false;
        };
        [&b".ko"[..], b".ko.xz", b".ko.zst", b".ko.gz"].contains(&end)
    }

    fn see_list(&mut self, list: &[u8]) {
        if list.split(|byte| *byte == b'\n').any(|line| self.is_module(line)) {
            self.found = Some(Driver::BuiltIn);
        }
    }

    fn see_config(&mut self, config: &str) {
        let wanted = format!("{}=y", self.option);
        if config.lines().any(|line| line.trim() == wanted) {
            self.found = Some(Driver::BuiltIn);
        }
    }
}

/// Looks for the drivers in the kernel's configuration, in the lists of what is built in, and in the initrd.
pub(super) fn virtio(
    volumes: &Volumes<'_>,
    root: usize,
    choice: &Choice,
    version: Option<&str>,
    initrd: Option<&[u8]>,
) -> Virtio {
    let search = |module, option| Search {
        module,
        option,
        found: None,
    };
    let mut drivers = [
        search("virtio_pci", "CONFIG_VIRTIO_PCI"),
        search("virtio_blk", "CONFIG_VIRTIO_BLK"),
    ];
    if let Some(version) = version {
        let folder = choice.kernel.rsplit_once('/').map_or("", |(folder, _)| folder);
        let configs = [
            (choice.volume, format!("{folder}/config-{version}")),
            (root, format!("/boot/config-{version}")),
            (root, format!("/usr/lib/modules/{version}/config")),
        ];
        let config = configs
            .iter()
            .find_map(|(volume, path)| volumes.text(*volume, path).ok());
        let lists = ["/lib/modules", "/usr/lib/modules"];
        let list = lists.iter().find_map(|folder| {
            volumes
                .text(root, &format!("{folder}/{version}/modules.builtin"))
                .ok()
        });
        for driver in &mut drivers {
            driver.see_config(config.as_deref().unwrap_or_default());
            driver.see_list(list.as_deref().unwrap_or_default().as_bytes());
        }
    }
    let mut why = None;
    if let Some(initrd) = initrd
        && drivers.iter().any(|driver| driver.found.is_none())
    {
        why = look_through(initrd, &mut drivers).err();
    }
    let [pci, block] = drivers.map(|driver| match (driver.found, &why) {
        (Some(found), _) => found,
        (None, Some(why)) => Driver::Unknown(why.to_string()),
        (None, None) => Driver::Missing,
    });
    Virtio { pci, block }
}

/// Looks through all archives of an initrd: plain ones, and one that is compressed behind them.
fn look_through(mut initrd: &[u8], drivers: &mut [Search]) -> io::Result<()> {
    loop {
        let start = initrd.iter().position(|byte| *byte != 0).unwrap_or(initrd.len());
        initrd = &initrd[start..];
        if initrd.is_empty() || drivers.iter().all(|driver| driver.found.is_some()) {
            return Ok(());
        }
        if initrd.starts_with(b"07070") {
            archive(&mut initrd, drivers)?;
            continue;
        }
        let mut plain: Box<dyn BufRead + '_> = match initrd {
            [0x02, 0x21, 0x4c, 0x18, ..] => {
                Box::new(io::BufReader::new(lz4::Frames::new(initrd).take(MOST_PLAIN)))
            }
            [0x1f, 0x8b, ..] | [0xfd, b'7', b'z', ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let stream = unpack::codec::decode(initrd).map_err(io::Error::other)?;
                Box::new(io::BufReader::new(stream.take(MOST_PLAIN)))
            }
            [b'B', b'Z', b'h', ..] => return Err(io::Error::other("bzip2")),
            [0x5d, 0, 0, ..] => return Err(io::Error::other("lzma")),
            [0x89, b'L', b'Z', b'O', ..] => return Err(io::Error::other("lzo")),
            _ => return Err(io::Error::other("no archive")),
        };
        archive(&mut plain, drivers)?;
        // Others may follow in the same stream; what else follows, and how it ends, is of no interest.
        while drivers.iter().any(|driver| driver.found.is_none()) && skip_zeros(&mut plain) {
            archive(&mut plain, drivers)?;
        }
        return Ok(());
    }
}

/// Skips the zeros between archives; whether another archive follows them.
fn skip_zeros(from: &mut impl BufRead) -> bool {
    loop {
        let Ok(bytes) = from.fill_buf() else {
            return false;
        };
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if zeros == 0 {
            return bytes.starts_with(b"0");
        }
        from.consume(zeros);
    }
}

/// Goes over one cpio archive of the "newc" kind up to its trailer.
fn archive(from: &mut impl Read, drivers: &mut [Search]) -> io::Result<()> {
    loop {
        let mut header = [0; 110];
        from.read_exact(&mut header)?;
        if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
            return Err(io::Error::other("no cpio archive"));
        }
        let field = |index: usize| -> io::Result<u64> {
            let digits = &header[6 + index * 8..14 + index * 8];
            let text = std::str::from_utf8(digits).map_err(io::Error::other)?;
            u64::from_str_radix(text, 16).map_err(io::Error::other)
        };
        let (size, name_size) = (field(6)?, field(11)?);
        if name_size == 0 || name_size > MOST_NAME {
            return Err(io::Error::other("name in a cpio archive"));
        }
        let mut name = Vec::new();
        from.take(name_size).read_to_end(&mut name)?;
        while name.pop_if(|byte| *byte == 0).is_some() {}
        skip(from, padding(110 + name_size))?;
        if name == b"TRAILER!!!" {
            return Ok(());
        }
        for driver in drivers.iter_mut() {
            if driver.found.is_none() && driver.is_module(&name) {
                driver.found = Some(Driver::Module);
            }
        }
        if name.ends_with(b"/modules.builtin") && size <= MOST_LIST {
            let mut list = Vec::new();
            from.take(size).read_to_end(&mut list)?;
            for driver in drivers.iter_mut() {
                driver.see_list(&list);
            }
            skip(from, padding(size))?;
        } else {
            skip(from, size + padding(size))?;
        }
        if drivers.iter().all(|driver| driver.found.is_some()) {
            return Ok(());
        }
    }
}

fn padding(len: u64) -> u64 {
    len.next_multiple_of(4) - len
}

fn skip(from: &mut impl Read, len: u64) -> io::Result<()> {
    if io::copy(&mut from.take(len), &mut io::sink())? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
