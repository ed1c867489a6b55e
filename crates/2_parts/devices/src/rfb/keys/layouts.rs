//! Keyboards: which key, with which modifiers, types a character.

/// The keyboard that a guest believes to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keymap {
    /// American: `en-us`.
    #[default]
    EnUs,
    /// Spanish: `es`.
    Es,
}

impl Keymap {
    /// The keymap of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "en-us" => Some(Keymap::EnUs),
            "es" => Some(Keymap::Es),
            _ => None,
        }
    }

    fn rows(self) -> &'static [Row] {
        match self {
            Keymap::EnUs => EN_US,
            Keymap::Es => ES,
        }
    }
}

/// A key and its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// Scan code of set 1.
    pub code: u16,
    /// With shift.
    pub shift: bool,
    /// With AltGr.
    pub altgr: bool,
    /// Caps lock turns shift around.
    pub letter: bool,
}

/// Keys side by side: the first one's scan code, and characters plain, with shift and with AltGr. A space: none. Dead keys are written as
/// the characters of their accents.
struct Row(u16, [&'static str; 3]);

const EN_US: &[Row] = &[
    Row(0x29, ["`", "~", ""]),
    Row(0x02, ["1234567890-=", "!@#$%^&*()_+", ""]),
    Row(0x10, ["qwertyuiop[]", "QWERTYUIOP{}", ""]),
    Row(0x1e, ["asdfghjkl;'", "ASDFGHJKL:\"", ""]),
    Row(0x2b, ["\\", "|", ""]),
    Row(0x2c, ["zxcvbnm,./", "ZXCVBNM<>?", ""]),
];

const ES: &[Row] = &[
    Row(0x29, ["º", "ª", "\\"]),
    Row(0x02, ["1234567890'¡", "!\"·$%&/()=?¿", "|@#~€¬"]),
    Row(0x10, ["qwertyuiop`+", "QWERTYUIOP^*", "  €       []"]),
    Row(0x1e, ["asdfghjklñ´", "ASDFGHJKLÑ¨", "          {"]),
    Row(0x2b, ["ç", "Ç", "}"]),
    Row(0x56, ["<", ">", ""]),
    Row(0x2c, ["zxcvbnm,.-", "ZXCVBNM;:_", ""]),
];

/// Accents of the Spanish keyboard's dead keys, the letters that they are typed before, and what comes of it.
const DEAD: &[(char, &str, &str)] = &[
    ('´', "aeiouyAEIOUY", "áéíóúýÁÉÍÓÚÝ"),
    ('`', "aeiouAEIOU", "àèìòùÀÈÌÒÙ"),
    ('^', "aeiouAEIOU", "âêîôûÂÊÎÔÛ"),
    ('¨', "aeiouyAEIOU", "äëïöüÿÄËÏÖÜ"),
];

const SPACE: Stroke = Stroke {
    code: 0x39,
    shift: false,
    altgr: false,
    letter: false,
};

/// The keysyms of dead keys (X11, keysymdef.h).
fn dead(keysym: u32) -> Option<char> {
    match keysym {
        0xfe50 => Some('`'),
        0xfe51 => Some('´'),
        0xfe52 => Some('^'),
        0xfe57 => Some('¨'),
        _ => None,
    }
}

/// The character that a keysym is.
fn character(keysym: u32) -> Option<char> {
    match keysym {
        0x20..=0x7e | 0xa0..=0xff | 0x20ac => char::from_u32(keysym),
        0x0100_0100..=0x0110_ffff => char::from_u32(keysym - 0x0100_0000),
        _ => None,
    }
}

fn stroke(keymap: Keymap, wanted: char) -> Option<Stroke> {
    if wanted == ' ' {
        return Some(SPACE);
    }
    keymap.rows().iter().find_map(|Row(first, levels)| {
        levels.iter().enumerate().find_map(|(level, keys)| {
            let at = keys.chars().position(|key| key == wanted)?;
            Some(Stroke {
                code: first + at as u16,
                shift: level == 1,
                altgr: level == 2,
                letter: wanted.is_alphabetic() && level < 2 && !matches!(wanted, 'º' | 'ª'),
            })
        })
    })
}

/// How a keysym is typed: a dead key first, when it needs one, and a stroke.
#[must_use]
pub fn find(keymap: Keymap, keysym: u32) -> Option<(Option<Stroke>, Stroke)> {
    let accents = if keymap == Keymap::Es { DEAD } else { &[] };
    if let Some(accent) = dead(keysym) {
        return Some((None, stroke(keymap, accent)?));
    }
    let wanted = character(keysym)?;
    for (accent, letters, done) in accents {
        let letter = if wanted == *accent {
            Some(' ')
        } else {
            let at = done.chars().position(|it| it == wanted);
            at.and_then(|at| letters.chars().nth(at))
        };
        if let Some(letter) = letter {
            return Some((Some(stroke(keymap, *accent)?), stroke(keymap, letter)?));
        }
    }
    Some((None, stroke(keymap, wanted)?))
}
