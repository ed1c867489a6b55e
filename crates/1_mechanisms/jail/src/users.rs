//! Users and groups of a jail, read from its own /etc/passwd and /etc/group; never by NSS, whose libraries would come
//! out of the jail (CVE-2019-14271).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use fault::{Fault, Result};

use crate::codes;

/// Most bytes of either file that are looked at.
pub const FILE_LIMIT: u64 = 4 << 20;

/// A resolved user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name, when /etc/passwd has one.
    pub name: Option<String>,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, ascending, without the primary one.
    pub groups: Vec<u32>,
    /// Home directory, `/` when unknown.
    pub home: String,
    /// Login shell, `/bin/sh` when unknown.
    pub shell: String,
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
    shell: &'a str,
}

fn id(text: &str) -> Option<u32> {
    // The largest value means "unchanged" to the kernel.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn passwd_lines(passwd: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with(['#', '+', '-']))?;
        let _password = fields.next()?;
        let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
        let _comment = fields.next()?;
        let home = fields.next()?;
        let shell = fields.next().unwrap_or_default();
        Some(PasswdLine {
            name,
            uid,
            gid,
            home,
            shell,
        })
    })
}

fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with(['#', '+', '-']))?;
        let _password = fields.next()?;
        Some((name, id(fields.next()?)?, fields.next().unwrap_or_default()))
    })
}

/// Finds the user that `wanted` (`name`, `uid`, `name:group`, `uid:gid`; root when absent) means, given the contents
/// of /etc/passwd and /etc/group. A number needs no entry. Pure.
///
/// # Errors
/// When a name is in neither file.
pub fn resolve(wanted: Option<&str>, passwd: &str, group: &str) -> Result<User> {
    let wanted = wanted.unwrap_or("0");
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let unknown = || Fault::new(codes::USER_UNKNOWN).arg("user", wanted);
    let number = id(user);
    let entry = passwd_lines(passwd)
        .find(|line| line.name == user)
        .or_else(|| number.and_then(|uid| passwd_lines(passwd).find(|line| line.uid == uid)));
    let mut found = match (entry, number) {
        (Some(line), _) => User {
            name: Some(line.name.to_owned()),
            uid: line.uid,
            gid: line.gid,
            groups: Vec::new(),
            home: Some(line.home)
                .filter(|home| home.starts_with('/'))
                .unwrap_or("/")
                .to_owned(),
            shell: Some(line.shell)
                .filter(|shell| shell.starts_with('/'))
                .unwrap_or("/bin/sh")
                .to_owned(),
        },
        (None, Some(uid)) => User {
            name: None,
            uid,
            gid: 0,
            groups: Vec::new(),
            home: if uid == 0 { "/root".into() } else { "/".into() },
            shell: "/bin/sh".into(),
        },
        (None, None) => return Err(unknown()),
    };
    if let Some(wanted_group) = wanted_group {
        found.gid = group_lines(group)
            .find(|(name, ..)| *name == wanted_group)
            .map(|(_, gid, _)| gid)
            .or_else(|| id(wanted_group))
            .ok_or_else(unknown)?;
    } else if let Some(name) = &found.name {
        found.groups = group_lines(group)
            .filter(|(.., members)| members.split(',').any(|member| member == name))
            .map(|(_, gid, _)| gid)
            .filter(|gid| *gid != found.gid)
            .collect();
        found.groups.sort_unstable();
        found.groups.dedup();
    }
    Ok(found)
}

/// As [`resolve`], in the root directory of the calling process. Files that are missing, too long to be true or no
/// regular files count as empty.
///
/// # Errors
/// When a name is in neither file.
pub(crate) fn resolve_here(wanted: Option<&str>) -> Result<User> {
    resolve(wanted, &read("/etc/passwd"), &read("/etc/group"))
}

/// A file of the jail that we are in; empty when it is none.
pub(crate) fn read(path: &str) -> String {
    let open = || -> std::io::Result<String> {
        // Without O_NONBLOCK a named pipe in the place of the file would hold us for ever.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    open().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nana:x:1000:1000:Ana:/home/ana:/bin/zsh\n\
                          +nis::::::\nbad:x:x:0::/:/bin/sh\nhalf:x:7\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:ana,bo\nadm:x:4:ana\nana:x:1000:ana\n";

    #[test]
    fn a_name_brings_its_groups_home_and_shell() {
        let ana = resolve(Some("ana"), PASSWD, GROUP).expect("known");
        assert_eq!((ana.uid, ana.gid, ana.groups), (1000, 1000, vec![4, 27]));
        assert_eq!((ana.home.as_str(), ana.shell.as_str()), ("/home/ana", "/bin/zsh"));
    }

    #[test]
    fn a_number_needs_no_entry_and_a_group_may_be_named() {
        let user = resolve(Some("4711:sudo"), PASSWD, GROUP).expect("a number");
        assert_eq!((user.uid, user.gid, user.name), (4711, 27, None));
        assert_eq!(resolve(None, "", "").expect("root").uid, 0);
    }

    #[test]
    fn a_name_without_entry_and_the_reserved_id_are_refused() {
        for wanted in [
            "nobody",
            "+nis",
            "bad",
            "half",
            "4294967295",
            "-1",
            "",
            "ana:nogroup",
        ] {
            assert!(resolve(Some(wanted), PASSWD, GROUP).is_err(), "{wanted}");
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_the_parser_panic(wanted in ".{0,12}", passwd in "[a-z0-9:,\\n+-]{0,200}", group in ".{0,200}") {
            let _ = resolve(Some(&wanted), &passwd, &group);
        }
    }
}
