//! Making new qcow2 images: version 3, 16-bit refcounts, no features that need care later.

use std::fs::File;
use std::os::unix::fs::FileExt;

use fault::{Fault, OrFault, Result};

use super::header::{MAGIC, MOST_L1};
use crate::{IO, Qcow2, SECTOR, SIZE};

/// How a new image is laid out.
#[derive(Clone, Copy, Debug)]
pub struct CreateOptions {
    /// Bytes of a cluster: a power of two from 512 to 2 MiB.
    pub cluster_size: u32,
}

impl Default for CreateOptions {
    /// 64 KiB, as QEMU has it.
    fn default() -> Self {
        CreateOptions {
            cluster_size: 64 << 10,
        }
    }
}

/// Bytes of the version 3 header with its compression type.
const HEADER: u32 = 112;
const REFCOUNT_ORDER: u32 = 4;

impl Qcow2 {
    /// Makes an empty image of a disk of this size out of a file, whose content is lost, and opens it.
    ///
    /// The header is written last: a file whose creation was cut off is no image.
    ///
    /// # Errors
    /// [`SIZE`] for a size that is no whole number of sectors or too large for the clusters, or [`IO`].
    pub fn create(file: File, size: u64, options: CreateOptions) -> Result<Self> {
        let cluster = u64::from(options.cluster_size);
        if !cluster.is_power_of_two() || !(512..=2 << 20).contains(&cluster) {
            return Err(Fault::new(SIZE).arg("size", cluster));
        }
        let l1_len = size.div_ceil(cluster * cluster / 8);
        if !size.is_multiple_of(SECTOR) || l1_len * 8 > MOST_L1 {
            return Err(Fault::new(SIZE).arg("size", size));
        }
        let l1_clusters = (l1_len * 8).div_ceil(cluster).max(1);
        // The blocks count the header, the table, themselves and the first level.
        let per_block = cluster * 8 >> REFCOUNT_ORDER;
        let (mut blocks, mut table) = (1, 1);
        while blocks * per_block < 1 + table + blocks + l1_clusters {
            blocks += 1;
            table = (blocks * 8).div_ceil(cluster);
        }
        let used = 1 + table + blocks + l1_clusters;
        let fill = || -> std::io::Result<()> {
            file.set_len(0)?;
            file.set_len(used * cluster)?;
            let first_block = (1 + table) * cluster;
            let offsets: Vec<u8> = (0..blocks)
                .flat_map(|block| (first_block + block * cluster).to_be_bytes())
                .collect();
            file.write_all_at(&offsets, cluster)?;
            let ones: Vec<u8> = (0..used).flat_map(|_| 1u16.to_be_bytes()).collect();
            file.write_all_at(&ones, first_block)?;
            file.sync_data()?;
            let l1_offset = (1 + table + blocks) * cluster;
            let header = header(size, cluster, l1_len, l1_offset, table);
            file.write_all_at(&header, 0)?;
            file.sync_data()
        };
        fill().or_fault(|| Fault::new(IO))?;
        Qcow2::open(file, false)
    }
}

fn header(size: u64, cluster: u64, l1_len: u64, l1_offset: u64, table: u64) -> Vec<u8> {
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let mut bytes = MAGIC.to_vec();
    let mut word = |value: u32| bytes.extend(value.to_be_bytes());
    word(3);
    // No backing file.
    [0; 3].into_iter().for_each(&mut word);
    word(cluster.trailing_zeros());
    [narrow(size >> 32), narrow(size & 0xffff_ffff)]
        .into_iter()
        .for_each(&mut word);
    // Not encrypted.
    word(0);
    word(narrow(l1_len));
    [narrow(l1_offset >> 32), narrow(l1_offset & 0xffff_ffff)]
        .into_iter()
        .for_each(&mut word);
    [0, narrow(cluster)].into_iter().for_each(&mut word);
    word(narrow(table));
    // No snapshots, no features.
    [0; 9].into_iter().for_each(&mut word);
    word(REFCOUNT_ORDER);
    word(HEADER);
    // Compression type, and the end of the header extensions.
    [0; 4].into_iter().for_each(&mut word);
    bytes
}
