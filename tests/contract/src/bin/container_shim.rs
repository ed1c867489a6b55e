//! The container engine's shim, as `posada-shim serve`, for the suite.

fn main() -> std::process::ExitCode {
    engine_container::shim_main(std::env::args_os().skip(2))
}
