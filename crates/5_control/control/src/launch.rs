//! Launching: from a request to a guest that runs, or to nothing at all.

use fault::{Fault, Result};
use ops::{Kind, Step, Work, nothing};

use crate::house::House;
use crate::power::{boot, disk, id_of, image, publish, raise, set_up, start};
use crate::remove::take_away;

/// Directories and addresses of a guest that is not started yet.
fn prepare() -> Step<House> {
    Step {
        name: "step-prepare",
        run: |house, work| {
            let stored = house.guest(&id_of(work)?)?;
            house.make_dirs(&stored)?;
            house.attach(stored.id()).map(drop)
        },
        undo: |house, work| house.networks.release(&id_of(work)?),
    }
}

/// A guest that could not be launched was never there.
fn forget(house: &House, work: &mut Work, _: &Fault) -> Result<()> {
    match house.find(&id_of(work)?)? {
        Some(stored) => {
            house.lower(&stored, true)?;
            take_away(house, &stored, true)
        }
        None => Ok(()),
    }
}

/// Tells who the guest is; names are often made up by us.
fn introduce() -> Step<House> {
    Step {
        name: "step-record",
        run: |house, work| {
            let stored = house.guest(&id_of(work)?)?;
            work.yields("id", stored.id().to_string());
            work.yields("name", stored.guest.name.to_string());
            if stored.guest.spec.privileged {
                work.notice("notice-privileged");
            }
            Ok(())
        },
        undo: nothing,
    }
}

/// The kinds of operations of this module.
pub(crate) fn kinds() -> Vec<Kind<House>> {
    vec![
        Kind {
            name: "launch",
            steps: vec![
                introduce(),
                image(),
                raise(),
                set_up(),
                disk(),
                publish(),
                start(),
                boot(),
            ],
            abandoned: forget,
        },
        // Up to the moment before process 1 starts: whoever asked attaches to the console first.
        Kind {
            name: "hold",
            steps: vec![introduce(), image(), raise(), set_up(), disk(), publish()],
            abandoned: forget,
        },
        Kind {
            name: "define",
            steps: vec![introduce(), image(), prepare()],
            abandoned: forget,
        },
    ]
}
