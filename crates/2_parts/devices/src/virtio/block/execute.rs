//! How bytes get from an image to guest memory and back: copied, in place, or many at once by the kernel's I/O ring.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use disk::Image;
use guestmem::Block;

use super::inplace::InPlace;
use super::uring::Uring;
use crate::virtio::queue::{Chain, Segment};

/// How requests to plain files are done. Images of other formats are always done one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By `preadv2` and `pwritev2`.
    OneByOne,
    /// By an I/O ring if the kernel allows one, else one by one.
    Ring,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Flush,
    Read,
    /// With `durable`, on the disk when it is done.
    Write {
        durable: bool,
    },
}

/// One transfer, in a box that goes from hand to hand. The data begin `skip` bytes behind the beginning of the chain's readable or
/// writable part.
#[derive(Default)]
pub(super) struct Transfer {
    pub kind: Kind,
    pub chain: Chain,
    pub skip: u64,
    pub len: u64,
    pub offset: u64,
}

impl Transfer {
    /// The pieces of guest memory, in their order.
    pub(super) fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let side = match self.kind {
            Kind::Read => self.chain.writable(),
            Kind::Write { .. } => self.chain.readable(),
            Kind::Flush => &[],
        };
        let (mut skip, mut left) = (self.skip, self.len);
        side.iter().filter_map(move |segment| {
            let passed = skip.min(u64::from(segment.len));
            skip -= passed;
            let len = (u64::from(segment.len) - passed).min(left);
            left -= len;
            (len > 0).then_some(Segment {
                offset: segment.offset + passed,
                len: len as u32,
            })
        })
    }
}

/// A transfer that has ended, and how.
pub(super) type Ended = (Box<Transfer>, io::Result<()>);

/// Does transfers.
pub(super) trait Executor: Send {
    /// Starts a transfer. Gives it back if it is done already.
    fn start(&mut self, transfer: Box<Transfer>, block: &Block) -> Option<Ended>;

    /// Whether one more can be started.
    fn has_room(&self) -> bool {
        true
    }

    /// Hands what was started to the kernel.
    fn submit(&mut self) {}

    /// A transfer that has ended; with `wait`, waits for one if one is under way.
    fn finish(&mut self, _wait: bool, _block: &Block) -> Option<Ended> {
        None
    }

    /// Is readable when a transfer has ended.
    fn waker(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The best executor for an image.
pub(super) fn choose(image: &Arc<dyn Image>, method: Method) -> io::Result<Box<dyn Executor>> {
    let Some(file) = image.raw_file() else {
        return Ok(Box::new(Copying::new(Arc::clone(image))));
    };
    let file = file.try_clone_to_owned()?;
    if method == Method::Ring
        && let Ok(ring) = Uring::new(file.try_clone()?)
    {
        return Ok(Box::new(ring));
    }
    Ok(Box::new(InPlace::new(file)))
}

/// Through a buffer: for images that are more than a plain file.
struct Copying {
    image: Arc<dyn Image>,
    buffer: Vec<u8>,
}

impl Copying {
    const BUFFER: usize = 128 << 10;

    fn new(image: Arc<dyn Image>) -> Self {
        Copying {
            image,
            buffer: vec![0; Self::BUFFER],
        }
    }

    fn transfer(&mut self, transfer: &Transfer, block: &Block) -> io::Result<()> {
        let mut offset = transfer.offset;
        let mut left = transfer.len;
        let (mut reader, mut writer) = (transfer.chain.reader(block), transfer.chain.writer(block));
        reader.skip(transfer.skip);
        while left > 0 {
            let len = left.min(Self::BUFFER as u64) as usize;
            let piece = &mut self.buffer[..len];
            match transfer.kind {
                Kind::Read => {
                    self.image.read_at(piece, offset)?;
                    writer.write(piece);
                }
                Kind::Write { .. } => {
                    reader.read(piece);
                    self.image.write_at(piece, offset)?;
                }
                Kind::Flush => break,
            }
            offset += len as u64;
            left -= len as u64;
        }
        match transfer.kind {
            Kind::Write { durable: true } | Kind::Flush => self.image.flush(),
            _ => Ok(()),
        }
    }
}

impl Executor for Copying {
    fn start(&mut self, transfer: Box<Transfer>, block: &Block) -> Option<Ended> {
        let outcome = self.transfer(&transfer, block);
        Some((transfer, outcome))
    }
}
