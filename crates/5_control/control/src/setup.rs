//! What is done inside a new guest once, before its first boot: one script, given its values by the environment.
//!
//! The script runs in the guest's own tree, in a jail like the guest's own; nothing of it is looked at from outside.

use std::collections::BTreeMap;

use engine::ExecPlan;
use fault::Result;
use model::{GuestSpec, Init, Setup};

use crate::hardware::is_machine;

/// Packages that the image must have for this set-up, beyond those asked for; sorted, each once.
#[must_use]
pub fn packages(setup: &Setup) -> Vec<String> {
    let mut packages = setup.include.clone();
    if setup.locale.as_deref().is_some_and(needs_definition) {
        packages.push("locales".to_owned());
    }
    packages.sort();
    packages.dedup();
    packages
}

/// Packages that the image of a guest must have: those of its set-up, and of a machine its kernel and what belongs to
/// that.
///
/// # Errors
/// Faults of the images: no kernel for this architecture.
pub fn all_packages(spec: &GuestSpec) -> Result<Vec<String>> {
    let mut all = packages(&spec.setup);
    if is_machine(spec) {
        let flavour = spec.machine.as_ref().map(|hardware| hardware.kernel_flavour);
        all.extend(images::machine::packages(
            &spec.image,
            flavour.unwrap_or_default(),
            None,
        )?);
        all.sort();
        all.dedup();
    }
    Ok(all)
}

/// Whether a locale has to be generated: all but those built into the C library.
fn needs_definition(locale: &str) -> bool {
    !matches!(locale, "C" | "POSIX" | "C.UTF-8" | "C.utf8")
}

/// The script's process, or none when there is nothing to do. `host_keys`: the image holds a secure shell server,
/// whose keys must be this guest's own. `proxy` is the address that `setup.proxy` means here.
#[must_use]
pub fn process(setup: &Setup, init: &Init, host_keys: bool, proxy: Option<&str>) -> Option<ExecPlan> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    if host_keys && *init == Init::System {
        set("SETUP_HOST_KEYS", "yes");
    }
    if let Some(user) = &setup.user {
        set("SETUP_USER", user);
    }
    if !setup.ssh_keys.is_empty() {
        set("SETUP_SSH_KEYS", &setup.ssh_keys.join("\n"));
    }
    if let Some(hash) = &setup.password_hash {
        set("SETUP_PASSWORD_HASH", hash);
    }
    if let Some(locale) = &setup.locale {
        set("SETUP_LOCALE", locale);
        if needs_definition(locale) {
            let charset = locale.split_once('.').map_or("UTF-8", |(_, rest)| rest);
            let charset = charset.split('@').next().unwrap_or("UTF-8");
            let charset = if charset.eq_ignore_ascii_case("utf8") {
                "UTF-8"
            } else {
                charset
            };
            set("SETUP_LOCALE_GEN", &format!("{locale} {charset}"));
        }
    }
    if let Some(zone) = &setup.timezone {
        set("SETUP_TIMEZONE", zone);
    }
    if let Some(proxy) = proxy {
        set("SETUP_PROXY", proxy);
    }
    if env.is_empty() {
        return None;
    }
    env.insert("LC_ALL".to_owned(), "C".to_owned());
    env.insert("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned());
    Some(ExecPlan {
        argv: ["/bin/sh", "-eu", "-s"].map(str::to_owned).to_vec(),
        env,
        workdir: Some("/".to_owned()),
        user: Some("0:0".to_owned()),
        terminal: None,
    })
}

/// Setting one password in a guest that exists.
#[must_use]
pub fn password(user: &str, hash: &str) -> (ExecPlan, String) {
    let plan = ExecPlan {
        argv: ["chpasswd", "-e"].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("LC_ALL".to_owned(), "C".to_owned())]),
        workdir: Some("/".to_owned()),
        user: Some("0:0".to_owned()),
        terminal: None,
    };
    (plan, format!("{user}:{hash}\n"))
}

/// The script. `say` marks its steps in the output that a fault quotes.
pub const SCRIPT: &str = r#"
say() { echo "setup: $*"; }
given() { eval "[ -n \"\${$1:-}\" ]"; }
if given SETUP_HOST_KEYS; then
    say "host keys"
    rm -f /etc/ssh/ssh_host_*
    mkdir -p /run/sshd
    ssh-keygen -q -A
fi
if given SETUP_TIMEZONE; then
    say "time zone $SETUP_TIMEZONE"
    [ -e "/usr/share/zoneinfo/$SETUP_TIMEZONE" ] || { echo "no such time zone in this image"; exit 1; }
    ln -sfn "/usr/share/zoneinfo/$SETUP_TIMEZONE" /etc/localtime
    echo "$SETUP_TIMEZONE" > /etc/timezone
fi
if given SETUP_LOCALE; then
    say "locale $SETUP_LOCALE"
    if given SETUP_LOCALE_GEN; then
        command -v locale-gen > /dev/null || { echo "the package locales is missing in this image"; exit 1; }
        grep -qxF "$SETUP_LOCALE_GEN" /usr/share/i18n/SUPPORTED || { echo "no such locale in this image"; exit 1; }
        grep -qxF "$SETUP_LOCALE_GEN" /etc/locale.gen 2> /dev/null || echo "$SETUP_LOCALE_GEN" >> /etc/locale.gen
        locale-gen
    fi
    mkdir -p /etc/default
    echo "LANG=$SETUP_LOCALE" > /etc/default/locale
    echo "LANG=$SETUP_LOCALE" > /etc/locale.conf
fi
if given SETUP_PROXY; then
    say "proxy"
    if [ -d /etc/apt/apt.conf.d ]; then
        printf 'Acquire::http::Proxy "%s";\nAcquire::https::Proxy "%s";\n' "$SETUP_PROXY" "$SETUP_PROXY" \
            > /etc/apt/apt.conf.d/80posada-proxy
    fi
    for name in http_proxy https_proxy HTTP_PROXY HTTPS_PROXY; do
        grep -q "^$name=" /etc/environment 2> /dev/null || echo "$name=$SETUP_PROXY" >> /etc/environment
    done
fi
login=root
if given SETUP_USER; then
    say "user $SETUP_USER"
    login=$SETUP_USER
    shell=/bin/sh
    [ ! -x /bin/bash ] || shell=/bin/bash
    grep -q "^$login:" /etc/passwd || useradd --create-home --shell "$shell" "$login"
    if [ "$login" != root ] && grep -q '^sudo:' /etc/group; then
        usermod --append --groups sudo "$login"
        if ! given SETUP_PASSWORD_HASH && [ -d /etc/sudoers.d ]; then
            echo "$login ALL=(ALL:ALL) NOPASSWD: ALL" > /etc/sudoers.d/posada
            chmod 0440 /etc/sudoers.d/posada
        fi
    fi
fi
if given SETUP_PASSWORD_HASH; then
    say "password of $login"
    usermod --password "$SETUP_PASSWORD_HASH" "$login"
fi
if given SETUP_SSH_KEYS; then
    say "keys of $login"
    home=$(grep "^$login:" /etc/passwd | cut -d: -f6)
    group=$(grep "^$login:" /etc/passwd | cut -d: -f4)
    umask 077
    mkdir -p "$home/.ssh"
    touch "$home/.ssh/authorized_keys"
    printf '%s\n' "$SETUP_SSH_KEYS" | while read -r key; do
        grep -qxF "$key" "$home/.ssh/authorized_keys" || echo "$key" >> "$home/.ssh/authorized_keys"
    done
    chown -R "$login:$group" "$home/.ssh"
fi
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_guest_needs_no_set_up() {
        assert_eq!(process(&Setup::default(), &Init::System, false, None), None);
        assert_eq!(packages(&Setup::default()), Vec::<String>::new());
    }

    #[test]
    fn a_locale_brings_its_package_and_its_definition() {
        let setup = Setup {
            locale: Some("es_ES.UTF-8".to_owned()),
            include: vec!["nginx".to_owned(), "less".to_owned(), "nginx".to_owned()],
            ..Setup::default()
        };
        assert_eq!(packages(&setup), ["less", "locales", "nginx"]);
        let plan = process(&setup, &Init::System, false, None).unwrap();
        assert_eq!(plan.env["SETUP_LOCALE_GEN"], "es_ES.UTF-8 UTF-8");
        let plain = Setup {
            locale: Some("C.UTF-8".to_owned()),
            ..Setup::default()
        };
        assert_eq!(packages(&plain), Vec::<String>::new());
        assert!(
            !process(&plain, &Init::System, false, None)
                .unwrap()
                .env
                .contains_key("SETUP_LOCALE_GEN")
        );
    }

    #[test]
    fn the_script_is_one_that_a_shell_reads() {
        let status = std::process::Command::new("sh")
            .args(["-n", "-c", SCRIPT])
            .status()
            .unwrap();
        assert!(status.success());
    }

    #[test]
    fn the_script_with_nothing_to_do_does_nothing() {
        let output = std::process::Command::new("sh")
            .args(["-eu", "-c", SCRIPT])
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.is_empty());
    }
}
