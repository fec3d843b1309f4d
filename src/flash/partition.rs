//! The partition table of a card or an image of one: the MBR, as all Raspberry Pi OS images have it.
//!
//! In:       the first sector, and how long the whole is.
//! Out:      the partitions, or what is wrong with it.
//! Source:   the MBR's classic layout: four entries of 16 bytes at 446, the signature 55 AA at 510; numbers are little-endian, in sectors of 512.

/// The unit of the table, in bytes.
pub const SECTOR: u64 = 512;

/// One partition. Offsets and lengths are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1, as in `/dev/mmcblk0p1`.
    pub number: usize,
    /// The table's byte for its kind: 0x0c is FAT32, 0x83 is Linux.
    pub kind: u8,
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub length: u64,
}

/// Why there is no table that can be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No 55 AA at its end, or nothing in it.
    #[error("it has no partition table: it does not begin as the image of a card does")]
    None,
    /// A FAT boot sector where a table should be.
    #[error("it is one FAT partition, not a whole card")]
    OnePartition,
    /// A protective entry: the real table is elsewhere.
    #[error("its partition table is a GPT; Raspberry Pi OS images have an MBR")]
    Gpt,
    /// A partition ends behind the end of the whole.
    #[error("it is cut short: partition {number} ends at byte {end}, and there are {total}")]
    CutShort {
        /// Which.
        number: usize,
        /// Where it should end.
        end: u64,
        /// Where all ends.
        total: u64,
    },
    /// Two partitions, or one and the table, share bytes.
    #[error("partition {number} begins inside of what stands before it")]
    Overlap {
        /// Which.
        number: usize,
    },
}

/// Reads the table in `sector`, the first 512 bytes of `total`.
///
/// # Errors
/// See [`TableError`].
pub fn read(sector: &[u8; 512], total: u64) -> Result<Vec<Partition>, TableError> {
    let (body, signature) = sector.split_at(510);
    if signature != [0x55, 0xaa] {
        return Err(TableError::None);
    }
    if is_fat(sector) {
        return Err(TableError::OnePartition);
    }
    let (_, entries) = body.split_at(446);
    let mut partitions = Vec::new();
    for (index, entry) in entries.chunks_exact(16).enumerate() {
        let &[_, _, _, _, kind, _, _, _, s0, s1, s2, s3, l0, l1, l2, l3] = entry else { continue };
        let start = u64::from(u32::from_le_bytes([s0, s1, s2, s3])) * SECTOR;
        let length = u64::from(u32::from_le_bytes([l0, l1, l2, l3])) * SECTOR;
        if kind == 0xee {
            return Err(TableError::Gpt);
        }
        if kind != 0 && length > 0 {
            partitions.push(Partition { number: index + 1, kind, start, length });
        }
    }
    if partitions.is_empty() {
        return Err(TableError::None);
    }
    let mut by_place = partitions.clone();
    by_place.sort_by_key(|partition| partition.start);
    let mut free_from = SECTOR;
    for partition in &by_place {
        if partition.start < free_from {
            return Err(TableError::Overlap { number: partition.number });
        }
        free_from = partition.start + partition.length;
    }
    // The last one tells best how much is missing.
    if let Some(last) = by_place.last().filter(|last| last.start + last.length > total) {
        return Err(TableError::CutShort { number: last.number, end: last.start + last.length, total });
    }
    Ok(partitions)
}

/// The partition that the firmware boots from: the first FAT32 one.
#[must_use]
pub fn boot(partitions: &[Partition]) -> Option<Partition> {
    partitions.iter().copied().find(|partition| matches!(partition.kind, 0x0b | 0x0c))
}

/// Whether there is a partition for a system to be in. Source: pi-gen, `export-image/prerun.sh`: ext4, of kind 0x83.
#[must_use]
pub fn has_system(partitions: &[Partition]) -> bool {
    partitions.iter().any(|partition| partition.kind == 0x83)
}

fn is_fat(sector: &[u8; 512]) -> bool {
    let word = |at: usize| sector.get(at..at + 3) == Some(b"FAT".as_slice());
    word(0x36) || word(0x52)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(entries: &[(u8, u32, u32)]) -> [u8; 512] {
        let mut sector = [0; 512];
        for (index, (kind, start, length)) in entries.iter().enumerate() {
            let at = 446 + 16 * index;
            sector[at + 4] = *kind;
            sector[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            sector[at + 12..at + 16].copy_from_slice(&length.to_le_bytes());
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    #[test]
    fn the_table_of_a_raspberry_pi_os_image_is_read() {
        let sector = table(&[(0x0c, 8192, 1_048_576), (0x83, 1_056_768, 4_000_000)]);
        let all = read(&sector, (1_056_768 + 4_000_000) * 512).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(boot(&all), Some(Partition { number: 1, kind: 0x0c, start: 8192 * 512, length: 1_048_576 * 512 }));
    }

    #[test]
    fn what_is_no_table_is_told_apart() {
        assert_eq!(read(&[0; 512], 512), Err(TableError::None));
        assert_eq!(read(&table(&[]), 1 << 30), Err(TableError::None));
        assert_eq!(read(&table(&[(0xee, 1, 100)]), 1 << 30), Err(TableError::Gpt));
        let mut fat = table(&[]);
        fat[0x52..0x57].copy_from_slice(b"FAT32");
        assert_eq!(read(&fat, 1 << 30), Err(TableError::OnePartition));
        let sector = table(&[(0x0c, 10, 100), (0x83, 110, 100)]);
        assert_eq!(read(&sector, 209 * 512), Err(TableError::CutShort { number: 2, end: 210 * 512, total: 209 * 512 }));
        assert!(read(&sector, 210 * 512).is_ok());
        assert_eq!(read(&table(&[(0x0c, 10, 100), (0x83, 109, 100)]), 1 << 30), Err(TableError::Overlap { number: 2 }));
        assert_eq!(read(&table(&[(0x0c, 0, 100)]), 1 << 30), Err(TableError::Overlap { number: 1 }));
    }

    proptest! {
        #[test]
        fn whatever_the_sector_holds_the_partitions_lie_within_and_apart(bytes in proptest::collection::vec(any::<u8>(), 66), total in 0u64..1 << 41) {
            let mut sector = [0; 512];
            sector[446..].copy_from_slice(&bytes);
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
            if let Ok(mut all) = read(&sector, total) {
                all.sort_by_key(|one| one.start);
                prop_assert!(all.iter().all(|one| one.start >= SECTOR && one.start + one.length <= total));
                prop_assert!(all.windows(2).all(|pair| pair[0].start + pair[0].length <= pair[1].start));
            }
        }
    }
}
