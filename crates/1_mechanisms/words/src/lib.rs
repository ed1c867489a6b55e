//! Every word a user reads, in English and Spanish, from message catalogues.
