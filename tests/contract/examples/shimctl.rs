//! By hand: drives a shim. `shimctl SHIM PLAN VERB…`.

use std::io::Read;

use engine::attach::Session;
use engine::shim::Shim;
use engine::{ExecPlan, Plan, Stop};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let plan: Plan = serde_json::from_slice(&std::fs::read(&args[1]).unwrap()).unwrap();
    let connect = || Shim::connect(&plan.run_dir).unwrap();
    match args[2].as_str() {
        "up" => {
            let mut shim = engine::spawn(args[0].as_ref(), &plan).unwrap();
            shim.create().unwrap();
            shim.start().unwrap();
        }
        "status" => println!("{:?}", connect().status()),
        "stats" => println!("{:?}", connect().stats()),
        "stop" => println!("{:?}", connect().stop(Stop::Graceful { deadline_ms: 20_000 })),
        "restart" => println!("{:?}", connect().restart(Stop::Graceful { deadline_ms: 20_000 })),
        "kill" => println!("{:?}", connect().stop(Stop::Forced)),
        "delete" => println!("{:?}", connect().delete()),
        "run" => {
            let plan = ExecPlan {
                argv: args[3..].to_vec(),
                ..ExecPlan::default()
            };
            let (exit, output) = connect().run(plan, String::new()).unwrap();
            println!("{output}[{exit:?}]");
        }
        "exec" => {
            let exec = ExecPlan {
                argv: args[3..].to_vec(),
                terminal: Some((24, 80)),
                ..ExecPlan::default()
            };
            let ticket = connect().exec(exec).unwrap();
            let mut session = Session::open(&plan.run_dir.join("attach.sock"), &ticket).unwrap();
            let mut out = Vec::new();
            let _ = std::fs::File::from(session.fds.pop().unwrap()).read_to_end(&mut out);
            println!("{}[{:?}]", String::from_utf8_lossy(&out), session.control.wait());
        }
        verb => panic!("{verb}"),
    }
}
