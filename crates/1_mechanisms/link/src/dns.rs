//! DNS messages (RFC 1035, RFC 6891) as far as a name server of a small domain and a forwarder need them: the
//! question of a query, answers to it, and the patching of numbers. Everything else passes through as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of the fixed header.
pub const HEADER: usize = 12;
/// Largest answer over UDP for a client that tells no size.
pub const PLAIN_UDP: usize = 512;

/// Kinds of records that we answer.
pub mod kind {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Name of an address.
    pub const PTR: u16 = 12;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// EDNS.
    pub const OPT: u16 = 41;
    /// Every kind.
    pub const ANY: u16 = 255;
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// The name exists (maybe without records of the kind).
    Good = 0,
    /// The query is malformed.
    Malformed = 1,
    /// No upstream server answers.
    ServerFailed = 2,
    /// The name does not exist.
    NoSuchName = 3,
    /// We do not do that.
    NotDone = 4,
    /// We do not do that for this client.
    Refused = 5,
}

/// What a query asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Number that the answer repeats.
    pub id: u16,
    /// An ordinary query (operation 0) with exactly one question.
    pub ordinary: bool,
    /// The client wants recursion.
    pub recursion: bool,
    /// The name in lower case, labels joined by dots, without the last dot; the root is empty. Bytes that are no
    /// printable ASCII (and dots inside labels) are written `\ddd`.
    pub name: String,
    /// Kind of record.
    pub kind: u16,
    /// Class; 1 is the Internet.
    pub class: u16,
    /// The question section, as it came: the answer repeats it with the client's own spelling.
    pub question: Vec<u8>,
    /// Largest UDP answer that the client takes, in bytes, when it speaks EDNS.
    pub edns: Option<u16>,
}

impl Query {
    /// Largest answer over UDP, in bytes.
    #[must_use]
    pub fn udp_limit(&self) -> usize {
        self.edns
            .map_or(PLAIN_UDP, |size| usize::from(size).max(PLAIN_UDP))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

/// Reads a query; none when it is no query or its question is malformed.
#[must_use]
pub fn parse_query(bytes: &[u8]) -> Option<Query> {
    let flags = u16_at(bytes, 2)?;
    if bytes.len() < HEADER || flags & 0x8000 != 0 {
        return None;
    }
    let questions = u16_at(bytes, 4)?;
    let (name, after) = read_name(bytes, HEADER)?;
    let kind = u16_at(bytes, after)?;
    let class = u16_at(bytes, after + 2)?;
    let end = after + 4;
    let skip = u32::from(u16_at(bytes, 6)?) + u32::from(u16_at(bytes, 8)?);
    let edns = if questions == 1 {
        find_edns(bytes, end, skip, u16_at(bytes, 10)?)
    } else {
        None
    };
    Some(Query {
        id: u16_at(bytes, 0)?,
        ordinary: questions == 1 && flags & 0x7800 == 0,
        recursion: flags & 0x0100 != 0,
        name,
        kind,
        class,
        question: bytes[HEADER..end].to_vec(),
        edns,
    })
}

/// Reads a name without compression (a question's needs none); returns it and the offset after it.
fn read_name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = start;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > 63 || at - start + length > 254 {
            return None;
        }
        let label = bytes.get(at..at + length)?;
        at += length;
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            match byte {
                b'.' | b'\\' | 0..=32 | 127.. => name.push_str(&format!("\\{byte:03}")),
                _ => name.push(char::from(byte.to_ascii_lowercase())),
            }
        }
    }
}

/// Skips a name that may end in a compression pointer.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at = at.checked_add(1 + usize::from(length))?,
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn find_edns(bytes: &[u8], mut at: usize, skip: u32, additional: u16) -> Option<u16> {
    for number in 0..skip.checked_add(u32::from(additional))? {
        at = skip_name(bytes, at)?;
        let kind = u16_at(bytes, at)?;
        let size = u16_at(bytes, at + 2)?;
        let length = u16_at(bytes, at.checked_add(8)?)?;
        if number >= skip && kind == kind::OPT {
            return Some(size);
        }
        at = at.checked_add(10 + usize::from(length))?;
    }
    None
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A or AAAA, by family.
    Address(IpAddr),
    /// PTR: a name of printable labels.
    Pointer(String),
}

/// An authoritative answer to the query, cut (with the truncation flag) to `limit` bytes. `zone` is the domain that
/// the start of authority names when there are no records, so that clients remember that for `ttl` seconds.
#[must_use]
pub fn answer(
    query: &Query,
    outcome: Outcome,
    records: &[Record],
    zone: &str,
    ttl: u32,
    limit: usize,
) -> Vec<u8> {
    let recursion = if query.recursion { 0x0100 } else { 0 };
    let flags = 0x8000 | 0x0400 | recursion | 0x0080 | outcome as u16;
    let mut out = header(query, flags);
    let mut count = 0_u16;
    let edns_room = if query.edns.is_some() { 11 } else { 0 };
    for record in records {
        let before = out.len();
        write_record(&mut out, record, ttl);
        if out.len() + edns_room > limit {
            out.truncate(before);
            out[2] |= 0x02;
            break;
        }
        count += 1;
    }
    out[6..8].copy_from_slice(&count.to_be_bytes());
    if records.is_empty() && !zone.is_empty() {
        let before = out.len();
        write_soa(&mut out, zone, ttl);
        if out.len() + edns_room > limit {
            out.truncate(before);
        } else {
            out[9] = 1;
        }
    }
    write_edns(&mut out, query);
    out
}

/// An answer without records that speaks for no zone.
#[must_use]
pub fn failure(query: &Query, outcome: Outcome) -> Vec<u8> {
    let recursion = if query.recursion { 0x0100 } else { 0 };
    let mut out = header(query, 0x8000 | recursion | 0x0080 | outcome as u16);
    write_edns(&mut out, query);
    out
}

/// An answer that only says: ask again over TCP.
#[must_use]
pub fn truncated(query: &Query) -> Vec<u8> {
    let mut out = failure(query, Outcome::Good);
    out[2] |= 0x02;
    out
}

fn header(query: &Query, flags: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend(query.id.to_be_bytes());
    out.extend(flags.to_be_bytes());
    out.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend(&query.question);
    out
}

fn write_edns(out: &mut Vec<u8>, query: &Query) {
    if query.edns.is_some() {
        // Root name, OPT, 1,232 bytes of UDP (the size that avoids fragments), no extended flags, no data.
        out.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
        out[11] = 1;
    }
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let bytes = &label.as_bytes()[..label.len().min(63)];
        out.push(bytes.len() as u8);
        out.extend(bytes);
    }
    out.push(0);
}

fn write_record(out: &mut Vec<u8>, record: &Record, ttl: u32) {
    // The owner's name is a pointer to the question's.
    out.extend([0xc0, HEADER as u8]);
    let (kind, data) = match record {
        Record::Address(IpAddr::V4(v4)) => (kind::A, v4.octets().to_vec()),
        Record::Address(IpAddr::V6(v6)) => (kind::AAAA, v6.octets().to_vec()),
        Record::Pointer(name) => {
            let mut data = Vec::new();
            write_name(&mut data, name);
            (kind::PTR, data)
        }
    };
    write_data(out, kind, ttl, &data);
}

fn write_data(out: &mut Vec<u8>, kind: u16, ttl: u32, data: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend(ttl.to_be_bytes());
    out.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(data);
}

fn write_soa(out: &mut Vec<u8>, zone: &str, ttl: u32) {
    write_name(out, zone);
    let mut data = Vec::new();
    write_name(&mut data, zone);
    write_name(&mut data, &format!("hostmaster.{zone}"));
    for number in [1_u32, 3600, 600, 86400, ttl] {
        data.extend(number.to_be_bytes());
    }
    write_data(out, kind::SOA, ttl, &data);
}

/// Whether the bytes are an answer to exactly this query: number, answer flag and question agree (the spelling of
/// the question included, which makes forging harder).
#[must_use]
pub fn is_answer_to(bytes: &[u8], id: u16, question: &[u8]) -> bool {
    bytes.len() >= HEADER
        && bytes[..2] == id.to_be_bytes()
        && bytes[2] & 0x80 != 0
        && (bytes.get(HEADER..HEADER + question.len()) == Some(question)
            || (bytes[4..6] == [0, 0] && bytes.len() == HEADER))
}

/// The outcome that an answer carries.
#[must_use]
pub fn outcome(bytes: &[u8]) -> Option<u8> {
    bytes.get(3).map(|flags| flags & 0x0f)
}

/// Writes another number into a message.
pub fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// The address that a name of the reverse trees (`….in-addr.arpa`, `….ip6.arpa`) stands for.
#[must_use]
pub fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut labels = digits.split('.');
        for octet in octets.iter_mut().rev() {
            let label = labels
                .next()
                .filter(|label| label.bytes().all(|b| b.is_ascii_digit()))?;
            *octet = label.parse().ok()?;
        }
        return labels
            .next()
            .is_none()
            .then(|| IpAddr::V4(Ipv4Addr::from(octets)));
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0_u128;
    let mut count = 0;
    for label in digits.split('.') {
        let [digit] = label.as_bytes() else { return None };
        let nibble = char::from(*digit).to_digit(16)?;
        if count == 32 {
            return None;
        }
        bits |= u128::from(nibble) << (4 * count);
        count += 1;
    }
    (count == 32).then(|| IpAddr::V6(Ipv6Addr::from_bits(bits)))
}

/// A query for a name, for clients and tests of a server; recursion wanted, EDNS of 1,232 bytes.
#[must_use]
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    write_name(&mut out, name);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    out
}

/// The addresses and names in the answer section, for clients and tests; none when malformed.
#[must_use]
pub fn parse_answer(bytes: &[u8]) -> Option<Vec<Record>> {
    let mut at = HEADER;
    for _ in 0..u16_at(bytes, 4)? {
        at = skip_name(bytes, at)?.checked_add(4)?;
    }
    let mut records = Vec::new();
    for _ in 0..u16_at(bytes, 6)? {
        at = skip_name(bytes, at)?;
        let kind = u16_at(bytes, at)?;
        let length = usize::from(u16_at(bytes, at + 8)?);
        let data = bytes.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        match kind {
            kind::A => records.push(Record::Address(IpAddr::from(<[u8; 4]>::try_from(data).ok()?))),
            kind::AAAA => records.push(Record::Address(IpAddr::from(<[u8; 16]>::try_from(data).ok()?))),
            kind::PTR => records.push(Record::Pointer(read_name(data, 0)?.0)),
            _ => {}
        }
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_question_is_answered_with_its_own_spelling() {
        let query = parse_query(&query(7, "WeB.posada", kind::A)).unwrap();
        assert_eq!(
            (query.name.as_str(), query.kind, query.edns),
            ("web.posada", kind::A, Some(1232))
        );
        let ip = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
        let bytes = answer(&query, Outcome::Good, &[Record::Address(ip)], "posada", 30, 1232);
        assert!(is_answer_to(&bytes, 7, &query.question));
        assert_eq!(parse_answer(&bytes).unwrap(), [Record::Address(ip)]);
        assert_eq!(&bytes[13..16], b"WeB");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        let query = parse_query(&query(7, "web.posada", kind::A)).unwrap();
        let many = vec![Record::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)); 100];
        let bytes = answer(&query, Outcome::Good, &many, "posada", 30, PLAIN_UDP);
        assert!(bytes.len() <= PLAIN_UDP && bytes[2] & 2 != 0);
        assert!(parse_answer(&bytes).unwrap().len() > 10);
        let none = answer(&query, Outcome::NoSuchName, &[], "posada", 30, PLAIN_UDP);
        assert_eq!((outcome(&none), none[9]), (Some(3), 1));
    }

    #[test]
    fn reverse_names_stand_for_addresses() {
        assert_eq!(
            reverse("3.2.1.10.in-addr.arpa"),
            Some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)))
        );
        let name = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reverse(name), Some("fd00::1".parse().unwrap()));
        for bad in [
            "1.10.in-addr.arpa",
            "1.2.3.4.5.in-addr.arpa",
            "x.2.3.4.in-addr.arpa",
            "1.ip6.arpa",
            "web",
        ] {
            assert_eq!(reverse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse_answer(&bytes);
            if let Some(query) = parse_query(&bytes) {
                let limit = query.udp_limit();
                prop_assert!(failure(&query, Outcome::Refused).len() <= 12 + 259 + 11);
                prop_assert!(answer(&query, Outcome::Good, &[], "posada", 1, limit).len() <= limit);
            }
        }

        #[test]
        fn a_query_with_garbage_behind_is_read_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = query(1, "a.b", kind::A);
            bytes.truncate(12 + 5 + 4);
            bytes.extend(tail);
            let query = parse_query(&bytes).unwrap();
            prop_assert_eq!(query.name, "a.b");
        }
    }
}
