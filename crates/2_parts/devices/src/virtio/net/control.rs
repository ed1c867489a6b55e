//! The control queue: what is received, by which pairs and with which offloads (section 5.1.6.5).

use guestmem::Block;
use serde::{Deserialize, Serialize};

use super::{GUEST_OFFLOADS, Shared, feature};
use crate::virtio::Step;
use crate::virtio::queue::{Chain, Reader};

/// Most addresses in a table; with more, everything of the kind is received.
const MOST_ADDRESSES: u32 = 64;

type Mac = [u8; 6];

/// What is received.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Filter {
    mac: Mac,
    all: bool,
    all_multicast: bool,
    /// None: everything.
    unicast: Option<Vec<Mac>>,
    multicast: Option<Vec<Mac>>,
}

impl Filter {
    /// Before the driver has said anything: everything. Drivers that know the control queue narrow it.
    pub(super) fn new(mac: Mac) -> Self {
        Filter {
            mac,
            all: true,
            all_multicast: false,
            unicast: Some(Vec::new()),
            multicast: Some(Vec::new()),
        }
    }

    /// Whether a frame is for the guest.
    pub(super) fn accepts(&self, frame: &[u8]) -> bool {
        let Some(to) = frame.first_chunk::<6>() else {
            return false;
        };
        let listed = |list: &Option<Vec<Mac>>| list.as_ref().is_none_or(|list| list.contains(to));
        self.all
            || *to == [0xff; 6]
            || *to == self.mac
            || if to[0] & 1 == 1 {
                self.all_multicast || listed(&self.multicast)
            } else {
                listed(&self.unicast)
            }
    }
}

/// A table of addresses: their number, then they.
fn table(reader: &mut Reader<'_>) -> Option<Option<Vec<Mac>>> {
    let count = u32::from_le_bytes(reader.array()?);
    if u64::from(count) * 6 > reader.left() {
        return None;
    }
    if count > MOST_ADDRESSES {
        reader.skip(u64::from(count) * 6);
        return Some(None);
    }
    Some((0..count).map(|_| reader.array()).collect())
}

/// Does what a command says; none when it makes no sense.
fn obey(shared: &Shared, reader: &mut Reader<'_>) -> Option<()> {
    let [class, command] = reader.array()?;
    match (class, command) {
        (0, 0) => shared.filter().all = reader.array::<1>()? != [0],
        (0, 1) => shared.filter().all_multicast = reader.array::<1>()? != [0],
        (1, 0) => {
            let (unicast, multicast) = (table(reader)?, table(reader)?);
            let mut filter = shared.filter();
            (filter.unicast, filter.multicast) = (unicast, multicast);
        }
        (1, 1) => shared.filter().mac = reader.array()?,
        (4, 0) if shared.has(feature::MQ) => {
            let wanted = u16::from_le_bytes(reader.array()?);
            if !(1..=shared.most_pairs()).contains(&wanted) {
                return None;
            }
            shared.set_pairs(wanted);
            shared.ring_all();
        }
        (5, 0) if shared.has(feature::CTRL_GUEST_OFFLOADS) => {
            let wanted = u64::from_le_bytes(reader.array()?);
            let agreed = shared.features.load(std::sync::atomic::Ordering::SeqCst) & GUEST_OFFLOADS;
            if wanted & !agreed != 0 {
                return None;
            }
            shared.set_offloads(wanted);
        }
        _ => return None,
    }
    Some(())
}

/// One command.
pub(super) fn command(shared: &Shared, chain: &Chain, block: &Block) -> Step {
    let done = obey(shared, &mut chain.reader(block));
    let mut writer = chain.writer(block);
    writer.write(&[u8::from(done.is_none())]);
    Step::Used(writer.written())
}
