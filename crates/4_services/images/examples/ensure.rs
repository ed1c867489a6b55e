//! Makes an image without the daemon: `cargo run --example ensure -- debian/12 STATE [CACHE]`.
#![allow(clippy::unwrap_used, reason = "an example ends where something fails")]

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let beside = std::env::current_exe().unwrap();
    let bin = beside.parent().unwrap().parent().unwrap();
    let images = images::Images::open(images::Settings {
        state_dir: args[2].clone().into(),
        cache_dir: args.get(3).map_or_else(|| "/tmp/posada-cache".into(), Into::into),
        worker_exe: bin.join("posada-worker"),
        shim_exe: bin.join("posada-shim"),
        ids: jail::recipe::IdRange {
            base: 1_000_000_000,
            count: 65_536,
        },
    })
    .unwrap();
    let start = std::time::Instant::now();
    match images.ensure(&args[1].parse().unwrap(), &[], &model::Unwatched) {
        Ok(image) => println!("{:.2} s: {image:#?}", start.elapsed().as_secs_f64()),
        Err(fault) => println!("{fault}"),
    }
}
