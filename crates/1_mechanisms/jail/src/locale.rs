//! The locale of a jail, as its own files say; programs started past its login would not know it otherwise.

use std::path::Path;

use crate::users::read;

/// Where systems keep `LANG=…`: Debian's file for PAM (locale.gen(5)), and locale.conf(5).
const FILES: [&str; 2] = ["/etc/default/locale", "/etc/locale.conf"];

/// The C library's own locale for UTF-8, where it is a file of its own.
const PLAIN_UTF8: (&str, &str) = ("/usr/lib/locale/C.utf8", "C.UTF-8");

/// The value of LANG for whoever is inside: what the jail's files say, else C.UTF-8 where the jail has it.
pub(crate) fn language_here() -> Option<String> {
    let told = FILES.iter().find_map(|file| language(&read(file)));
    told.or_else(|| {
        let (directory, name) = PLAIN_UTF8;
        Path::new(directory).is_dir().then(|| name.to_owned())
    })
}

/// LANG in a file of shell-like assignments; quotes around the value go, a value with anything odd is none.
fn language(text: &str) -> Option<String> {
    let value = text
        .lines()
        .filter_map(|line| {
            line.trim()
                .trim_start_matches("export ")
                .trim_start()
                .strip_prefix("LANG=")
        })
        .next_back()?;
    let value = value.trim().trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
    (!value.is_empty() && value.len() < 64 && value.chars().all(plain)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_read_from_assignments() {
        let of = |text: &str| language(text);
        assert_eq!(of("LANG=es_ES.UTF-8\n").as_deref(), Some("es_ES.UTF-8"));
        assert_eq!(
            of("# LANG=x\nLANG=\"de_DE.UTF-8\"\n").as_deref(),
            Some("de_DE.UTF-8")
        );
        assert_eq!(of("export LANG='C.UTF-8'").as_deref(), Some("C.UTF-8"));
        assert_eq!(
            of("LANG=a\nLANG=ca_ES@valencia").as_deref(),
            Some("ca_ES@valencia")
        );
        for odd in ["", "LANG=", "LANG=$(reboot)", "LC_ALL=x", "LANGUAGE=es"] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }
}
