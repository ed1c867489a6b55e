//! Networks of guests: bridges, addresses, forwards, and the network process.
//!
//! [`Networks`] is the daemon's side. It makes and heals what a network is made of on the host – bridge, addresses,
//! forwarding, packet filter, network process –, keeps the one record of who has which address, and plugs guests in.
//! [`serve`] is the body of `posada net NAME`: DHCP, router advertisements, DNS and user-space forwards, on sockets
//! that the daemon bound and handed over, without privileges, for as long as the network lives. A daemon that dies is
//! missed by nobody; the next one finds the process by its socket and goes on.
//!
//! ```text
//! state_dir/networks/NAME.json                     what lasts: subnet, prefix, addresses, published ports
//! run_dir/networks/host.json                       kernel settings changed, with what was there
//! run_dir/networks/NAME/{net.sock,net.pid,config.json,net.log}   the network process
//! ```

mod allocate;
mod doctor;
mod holder;
mod host;
mod manage;
mod process;
mod publish;
mod record;
mod serve;
mod sockets;
mod supervise;
mod upstream;
mod wire;

pub use manage::{AttachRequest, Networks, Settings};
pub use serve::serve;

use fault::Code;

/// No network has this name.
pub const NETWORK_UNKNOWN: Code = Code("NET010");
/// The wanted address is taken by another guest.
pub const ADDRESS_TAKEN: Code = Code("NET011");
/// The wanted address is not one for guests of the network.
pub const ADDRESS_OUTSIDE: Code = Code("NET012");
/// Every address of the network is taken.
pub const ADDRESSES_EXHAUSTED: Code = Code("NET013");
/// The port of the host is taken.
pub const PORT_TAKEN: Code = Code("NET014");
/// The address to publish on is none of the host's.
pub const PUBLISH_ADDRESS: Code = Code("NET015");
/// No subnet is free.
pub const SUBNET_EXHAUSTED: Code = Code("NET016");
/// The wanted subnet collides with the host's routes or addresses.
pub const SUBNET_TAKEN: Code = Code("NET017");
/// The network process did not start or does not answer.
pub const PROCESS_SILENT: Code = Code("NET018");
/// A file of the network cannot be read or written.
pub const RECORD_BROKEN: Code = Code("NET019");
/// The guest has no card in any network.
pub const GUEST_UNKNOWN: Code = Code("NET020");
/// A service of the network cannot listen on the gateway's address.
pub const SERVICE_PORT_TAKEN: Code = Code("NET021");
/// The wanted hardware address belongs to another card.
pub const MAC_TAKEN: Code = Code("NET022");
/// The network still has guests.
pub const NETWORK_USED: Code = Code("NET023");
/// A socket cannot be made.
pub const SOCKET_REFUSED: Code = Code("NET024");
