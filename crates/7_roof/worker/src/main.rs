//! Reads bytes from outside (indexes, packages, archives), confined and without privileges: small, static.
//!
//! `posada-worker [TREE]` serves requests of `archive::job` on its standard streams until the input ends; TREE is
//! the root that packages are unpacked to.

use std::path::PathBuf;
use std::process::ExitCode;

/// Packages unpacked at a time, at most: they are limited by the processor, and more would only take memory.
const MOST_THREADS: usize = 8;

fn main() -> ExitCode {
    let tree = std::env::args_os().nth(1).map(PathBuf::from).unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(MOST_THREADS));
    let input = std::io::BufReader::new(std::io::stdin());
    match archive::work::serve(input, std::io::stdout(), &tree, threads) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("posada-worker: {fault}");
            ExitCode::FAILURE
        }
    }
}
