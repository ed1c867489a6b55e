//! What x87, MMX, SSE and AES instructions do, by the host's own.
