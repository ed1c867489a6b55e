//! DNS messages and router solicitations: any bytes are read or refused, and every answer keeps its limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use link::dns::{self, Outcome, Record};

fuzz_target!(|bytes: &[u8]| {
    let _ = dns::parse_answer(bytes);
    let _ = link::ra::is_solicitation(bytes);
    if let Some(query) = dns::parse_query(bytes) {
        let _ = dns::reverse(&query.name);
        let limit = query.udp_limit();
        let records = vec![Record::Pointer(query.name.clone()); 40];
        let answer = dns::answer(&query, Outcome::Good, &records, "posada", 5, limit);
        assert!(answer.len() <= limit);
        assert!(dns::is_answer_to(&answer, query.id, &query.question));
    }
});
