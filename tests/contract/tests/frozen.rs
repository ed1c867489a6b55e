//! Today's client against the shim of the first protocol version.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::path::Path;

use contract::Ground;
use engine::protocol::{FileJob, REQUEST_UNKNOWN};
use engine::{ExecPlan, Stop};
use model::{ExitStatus, Init, Limits, Phase};

const FROZEN: &str = env!("CARGO_BIN_EXE_frozen-shim-1");
const TOOL: &str = env!("CARGO_BIN_EXE_guest-tool");

#[test]
fn todays_client_speaks_with_the_first_shim() {
    let mut ground = Ground::new(Path::new(FROZEN), Path::new(TOOL), &[]);
    ground.plan.init = Init::Command {
        argv: vec!["/bin/sleep".into(), "60".into()],
    };
    let mut shim = ground.shim();
    assert_eq!(shim.hello().protocol, 1);
    assert!(shim.create().unwrap().is_none());
    shim.start().unwrap();
    assert_eq!(shim.status().unwrap().phase, Phase::Running);
    assert_eq!(shim.stats().unwrap().memory, 2);
    assert_eq!(shim.limit(Limits::default()).unwrap()[0].limit, "memory");
    assert_eq!(shim.exec(ExecPlan::default()).unwrap(), "0123");
    let ran = shim.run(ExecPlan::default(), String::new()).unwrap();
    assert_eq!(ran, (ExitStatus::Code(0), "ran\n".to_owned()));
    let fault = shim.files(FileJob::Read { path: "/".into() }).unwrap_err();
    assert!(fault.is(REQUEST_UNKNOWN));
    let status = shim.stop(Stop::Forced).unwrap();
    assert_eq!(
        (status.phase, status.exit),
        (Phase::Stopped, Some(ExitStatus::Signal(9)))
    );
    shim.delete().unwrap();
}
