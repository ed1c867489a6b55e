//! Code page 437: what the characters of a BIOS font are in Unicode.

/// Characters 0 to 31, as they look on the screen.
const LOW: &str = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
/// Characters 128 to 255.
const HIGH: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The table of all characters.
#[must_use]
pub fn table() -> [char; 256] {
    let mut table: [char; 256] = std::array::from_fn(|code| char::from(code as u8));
    table[127] = '⌂';
    table
        .iter_mut()
        .zip(LOW.chars())
        .for_each(|(to, from)| *to = from);
    table[128..]
        .iter_mut()
        .zip(HIGH.chars())
        .for_each(|(to, from)| *to = from);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_its_place() {
        let table = table();
        assert_eq!((LOW.chars().count(), HIGH.chars().count()), (32, 128));
        assert_eq!(
            (table[0x41], table[0xc4], table[0xdb], table[0xe1], table[1]),
            ('A', '─', '█', 'ß', '☺')
        );
    }
}
