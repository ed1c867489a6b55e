//! What runs inside a machine for its host: processes, terminals, files; and the protocol that both sides speak.
