//! Guests in a row, and fifty at once; afterwards the host is as before.

use std::time::{Duration, Instant};

use labs::{Look, host, until};

use crate::Rounds;

/// How many guests run at once.
const AT_ONCE: u64 = 50;

/// Runs the rounds.
pub fn run(rounds: &Rounds) {
    let (host, _turn) = host();
    host.launch_sleeper("seed", "");
    host.purge(&["seed"]);
    let before = Look::now();
    let begin = Instant::now();
    for number in rounds.numbers() {
        let said = host.posada(&format!("launch debian/12 --rm row{number} -- true"));
        assert_eq!(said.code, 0, "round {number}: {said:?}");
    }
    println!(
        "{} in a row: {:.1} s",
        rounds.count,
        begin.elapsed().as_secs_f64()
    );

    let begin = Instant::now();
    let names: Vec<String> = (0..AT_ONCE).map(|number| format!("beside{number}")).collect();
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            host.command(["launch", "debian/12", name, "--", "sleep", "infinity"])
                .spawn()
                .expect("posada")
        })
        .collect();
    for mut child in children {
        assert!(child.wait().expect("our own child").success());
    }
    println!("{AT_ONCE} at once: {:.1} s", begin.elapsed().as_secs_f64());
    host.ok("rm --force --purge --yes beside*");
    until("the host is as before", Duration::from_secs(30), || {
        let mut new = Look::now().new_since(&before);
        new.retain(|line| !line.starts_with("file /var/lib/posada/store"));
        new.is_empty()
    });
}
