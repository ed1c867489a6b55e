//! The checksums of ext4 and its journal.

/// CRC32C (Castagnoli, reflected) as the kernel has it: no inversion at either end.
pub(super) fn crc32c(mut sum: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        sum = CASTAGNOLI[(sum as u8 ^ byte) as usize] ^ (sum >> 8);
    }
    sum
}

/// CRC32 with the most significant bit first, of version 1 journal checksums.
pub(super) fn crc32_be(mut sum: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        sum = ETHERNET[((sum >> 24) as u8 ^ byte) as usize] ^ (sum << 8);
    }
    sum
}

static CASTAGNOLI: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut sum = index as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
};

static ETHERNET: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut sum = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum << 1) ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_of_the_usual_nine_digits_are_right() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        // CRC-32/BZIP2, which is inverted at its end.
        assert_eq!(!crc32_be(!0, b"123456789"), 0xfc89_1918);
    }
}
