//! What a network of guests is made of on the host, and the packets it speaks.
//!
//! - [`Links`]: links, addresses and routes of one network namespace, by rtnetlink; blocking.
//! - [`nft`]: our packet filter table, rendered by a pure function and applied atomically.
//! - [`sysctl`]: kernel settings, planned by a pure function, written with a record of what was there.
//! - [`dhcp`], [`dns`], [`ra`]: packets. Their parsers take any bytes and never panic.
//! - [`Mac`], [`Subnet4`], [`Prefix6`]: addresses, and the choice of free ones.
//!
//! Nothing here reads a configuration file or the environment.

pub mod dhcp;
pub mod dns;
mod links;
mod mac;
mod netlink;
pub mod netns;
pub mod nft;
pub mod ra;
pub mod resolv;
mod subnet;
pub mod sysctl;

pub use links::{Address, Link, Links, Route, Veth};
pub use mac::Mac;
pub use subnet::{Prefix6, Subnet4};

use fault::Code;

/// The kernel refused a change of links, addresses or routes.
pub const NETLINK_REFUSED: Code = Code("NET001");
/// The nft program is missing.
pub const NFT_MISSING: Code = Code("NET002");
/// The nft program refused a rule set.
pub const NFT_REFUSED: Code = Code("NET003");
/// A kernel setting could not be written.
pub const SYSCTL_REFUSED: Code = Code("NET004");
/// A network namespace could not be entered.
pub const NETNS_REFUSED: Code = Code("NET005");
/// The text is not a MAC address for a guest.
pub const MAC_INVALID: Code = Code("NET006");
/// The text is not a subnet.
pub const SUBNET_INVALID: Code = Code("NET007");
