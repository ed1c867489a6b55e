//! Alternating measurement of two bodies, and the line that reports it.

use std::time::{Duration, Instant};

/// Runs ours and theirs in turn, `rounds` times after one warm-up each, and prints the line of their medians.
///
/// # Errors
/// Whatever a body says.
pub fn compare(
    name: &str,
    peer: &str,
    rounds: usize,
    mut ours: impl FnMut() -> Result<(), String>,
    mut theirs: impl FnMut() -> Result<(), String>,
) -> Result<f64, String> {
    ours()?;
    theirs()?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        a.push(timed(&mut ours)?);
        b.push(timed(&mut theirs)?);
    }
    Ok(report(name, peer, median(a), median(b)))
}

/// Prints the line of two times and returns their ratio.
pub fn report(name: &str, peer: &str, ours: Duration, theirs: Duration) -> f64 {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!(
        "{name} peer={peer} ours={:.2}ms theirs={:.2}ms ratio={ratio:.2}",
        ours.as_secs_f64() * 1e3,
        theirs.as_secs_f64() * 1e3
    );
    ratio
}

/// The median time of one body, after a warm-up.
///
/// # Errors
/// Whatever the body says.
pub fn timed_median(rounds: usize, mut body: impl FnMut() -> Result<(), String>) -> Result<Duration, String> {
    body()?;
    let times: Result<Vec<Duration>, String> = (0..rounds.max(1)).map(|_| timed(&mut body)).collect();
    times.map(median)
}

fn timed(body: &mut impl FnMut() -> Result<(), String>) -> Result<Duration, String> {
    let start = Instant::now();
    body()?;
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_an_outlier() {
        let ms = Duration::from_millis;
        assert_eq!(median(vec![ms(3), ms(900), ms(1)]), ms(3));
    }
}
