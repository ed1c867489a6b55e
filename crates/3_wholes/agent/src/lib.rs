//! What runs inside a machine for its host: processes, terminals, files; and the protocol that both sides speak.
//!
//! - [`protocol`] says what is said, [`wire`] how it looks on a byte stream;
//! - [`guest`] is the program inside, `posada-agent`: one loop over connections, sessions and their processes;
//! - [`host`] is the blocking client of whoever owns the machine.
//!
//! ```text
//! host                                            guest
//! greeting (mark, token)          ──────────────▶
//!                                 ◀──────────────  the same greeting, then Hello
//! Open(Exec …)     session 1      ──────────────▶
//!                                 ◀──────────────  Started     session 1
//! Input + bytes                   ──────────────▶  written to the process
//!                                 ◀──────────────  Credit      for as many bytes of input
//!                                 ◀──────────────  Output(stdout) + bytes
//! Credit(stdout)                  ──────────────▶
//!                                 ◀──────────────  End(Exited) session 1
//! ```
//!
//! The guest listens (vsock port 1024) and the host connects: the host knows when it wants something and needs no
//! socket of its own per guest, a guest without an agent simply refuses, and after a restored snapshot – all vsock
//! connections are gone then – nobody has to notice anything inside. A virtio-console port carries the same stream
//! where there is no vsock.

pub mod codes;
pub mod guest;
pub mod host;
pub mod protocol;
pub mod wire;
